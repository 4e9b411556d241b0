"""Slow: one command and one training, nothing edited, learn real persons by heart."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('mmpose')
from hrformer_mmpose.cli import new_dataset
from tests.conftest import ROOT
from tests.owndata import writers
from tests.owndata.conftest import five
from tests.owndata.test_other_keypoints import EIGHT, LINE

COMMAND = 'from hrformer_mmpose.cli.main import main; main()'
SMALL = ['--model', 'tiny', '--weights', 'none', '--overfit', '--input-size', '128x96']
SMALL += ['--epochs', '42']


def shell(folder: Path, *command) -> str:
    """Run a command in a folder of its own, so that nothing depends on the current one."""
    environment = os.environ | {'PYTHONPATH': str(ROOT), 'PYTHONIOENCODING': 'utf-8'}
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=folder, env=environment, text=True,
        capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def figures(work_dir: Path) -> list[dict]:
    """The lines of the training's own log of numbers."""
    (log,) = work_dir.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_real_annotations(five_of_coco, tmp_path, capsys):
    """168 images of COCO, with keypoints outside of boxes, crowds and persons without keypoints."""
    content, images = five_of_coco
    path = str(writers.coco(content, tmp_path))
    flags = [path, '--images', str(images), '--out', str(tmp_path / 'hands')]
    assert new_dataset.run(new_dataset.parser().parse_args(flags)) == 0
    out = capsys.readouterr().out
    assert '299 persons with keypoints, 168 images' in out
    assert 'note: images' not in out
    assert 'no problems' in out


@pytest.mark.slow
def test_five_keypoints_are_learnt_by_heart(five_of_coco, coco_mini, tmp_path):
    """168 images, 299 persons, 798 iterations on a CPU; then eight keypoints start from them."""
    content, images = five_of_coco
    path = writers.coco(content, tmp_path)
    flags = [path, '--images', images, '--out', 'hands']
    shell(tmp_path, '-c', COMMAND, 'new-dataset', *flags, *SMALL)
    shell(tmp_path, ROOT / 'tools/train.py', 'hands/config.py', '--work-dir', 'trained')
    last = [line for line in figures(tmp_path / 'trained') if 'coco/AP' in line][-1]
    assert last['coco/AP'] > 0.9
    whole = json.loads((coco_mini / 'annotations/person_keypoints_train2017.json').read_text())
    (tmp_path / 'eight').mkdir()
    path = writers.coco(five(whole, EIGHT), tmp_path / 'eight')
    (best,) = tmp_path.glob('trained/best_*.pth')
    flags = [path, '--images', images, '--out', 'body', *SMALL, '--weights', best, '--epochs', 1]
    shell(tmp_path, '-c', COMMAND, 'new-dataset', *flags)
    out = shell(tmp_path, ROOT / 'tools/train.py', 'body/config.py', '--no-validate')
    assert f"{LINE} '{best}'; 5 keypoints start anew: left_ear, hip_l, " in out
