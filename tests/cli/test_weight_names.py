"""Names of weights wherever a checkpoint is given, and the folder of a real training."""

import hashlib
import importlib.util
import json
import sys

import pytest
import torch

pytest.importorskip('mmpose')
from hrformer_mmpose import PoseEstimator
from hrformer_mmpose.checkpoint import published
from tests.checkpoint.test_published import publish, server  # noqa: F401  (a fixture)
from tests.cli.test_tools import CONFIG, shell, trained  # noqa: F401  (a fixture)
from tests.hub_server import COMMIT, serving

pytestmark = pytest.mark.slow

# Runs a tool with MMPose's server and table replaced.
PATCHED = """
import runpy, sys
from hrformer_mmpose.checkpoint import published
published._ROOT, name, path, tool = sys.argv[1:5]
published.FILES[name] = published.PublishedFile(path)
sys.argv[:] = sys.argv[4:]
if tool == 'hrformer':
    from hrformer_mmpose.cli.main import main
    main()
else:
    runpy.run_path(tool, run_name='__main__')
"""


@pytest.fixture(params=['mmpose', 'hf'])
def named(request, trained, tmp_path, monkeypatch):  # noqa: F811
    """A name of the trained weights, and how to start a tool that knows it."""
    weights = trained[0] / 'epoch_2.pth'
    if request.param == 'mmpose':
        served = request.getfixturevalue('server')
        publish(monkeypatch, served, 'demo', weights.read_bytes())
        file = published.FILES['demo'].path
        yield 'mmpose://demo', [sys.executable, '-c', PATCHED, published._ROOT, 'demo', file]
        return
    pytest.importorskip('huggingface_hub')
    with serving(monkeypatch, tmp_path / 'cache') as hub:
        from huggingface_hub import constants

        monkeypatch.setenv('HF_ENDPOINT', constants.ENDPOINT)
        monkeypatch.setenv('HF_HOME', str(tmp_path / 'hf'))
        hub.repos['a/b'] = {COMMIT: {'epoch_2.pth': weights.read_bytes()}}
        yield f'hf://a/b@{COMMIT}', [sys.executable, '-c', PATCHED, '', 'x', 'x']


def test_every_command_takes_a_name(named, synthetic_root, tmp_path):
    name, start = named
    image = next((synthetic_root / 'val2017').iterdir())
    base = ['--work-dir', tmp_path / 'work', '--cfg-options']

    def tool(*command):
        return shell(*start, *command, root=synthetic_root)

    log = tool('tools/test.py', CONFIG, name, *base[:2], '--out', tmp_path / 'metrics.json')
    assert f"recognised '{name}'" in log
    assert 'coco/AP' in json.loads((tmp_path / 'metrics.json').read_text())
    short = ['train_cfg.max_epochs=1', 'train_cfg.val_interval=9', 'train_dataloader.batch_size=4']
    log = tool('tools/train.py', CONFIG, *base, *short, f'load_from={name}')
    assert f"recognised '{name}'" in log
    init = ['model.backbone.init_cfg.type=Pretrained', f'model.backbone.init_cfg.checkpoint={name}']
    log = tool('tools/train.py', CONFIG, *base, *short, *init)
    assert f"recognised '{name}'" in log
    out = tmp_path / 'out'
    tool('hrformer', 'predict', image, '--model', CONFIG, '--checkpoint', name,
         '--boxes', 'whole-image', '--out', out, '--device', 'cpu')  # fmt: skip
    assert json.loads((out / 'keypoints.json').read_text())
    tool('tools/convert_checkpoint.py', name, tmp_path / 'converted.safetensors')
    if importlib.util.find_spec('onnx'):
        onnx = tmp_path / 'network.onnx'  # untrained: poses are too unsure to compare
        assert 'wrote' in tool('hrformer', 'export', CONFIG, name, onnx, '--no-check')
    tool('hrformer', 'save-pretrained', CONFIG, tmp_path / 'folder', '--checkpoint', name)
    for expected in (name.split('/')[-1], CONFIG.split('/')[-1][:-3]):
        assert expected in (tmp_path / 'folder' / 'README.md').read_text()


def test_the_folder_of_a_training(trained, synthetic_root, tmp_path):  # noqa: F811
    work_dir, _ = trained
    folder = tmp_path / 'folder'
    log = shell('hrformer', 'save-pretrained', work_dir, folder, root=synthetic_root)
    assert 'best_coco_AP_epoch_2.pth' in log
    lines = [json.loads(line) for line in next(work_dir.glob('*/vis_data/scalars.json')).open()]
    (AP,) = [line['coco/AP'] for line in lines if 'coco/AP' in line]
    assert f'| coco/AP | {AP:.4f} |' in (folder / 'README.md').read_text()
    settings = json.loads((folder / 'config.json').read_text())
    content = (folder / 'model.safetensors').read_bytes()
    assert settings['sha256'] == hashlib.sha256(content).hexdigest()
    image = next((synthetic_root / 'val2017').iterdir())
    config, best = work_dir / f'{CONFIG.split("/")[-1]}', work_dir / 'best_coco_AP_epoch_2.pth'
    box = [[10, 10, 120, 200]]
    (expected,) = PoseEstimator(config, best, 'cpu')(str(image), boxes=box)
    (pose,) = PoseEstimator.from_pretrained(folder, device='cpu')(str(image), boxes=box)
    assert torch.equal(torch.from_numpy(pose.keypoints), torch.from_numpy(expected.keypoints))
    assert torch.equal(torch.from_numpy(pose.scores), torch.from_numpy(expected.scores))
