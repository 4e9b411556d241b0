"""Every command and every block of Python in README, docs/ and examples/README.md.

All commands are parsed with the parsers of the tools; those that run in seconds on generated people
also run (slow). `command_lists.py` states which.
"""

import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip('mmpose')
from hrformer_mmpose import zoo
from hrformer_mmpose.cli import main as hrformer
from hrformer_mmpose.synthetic.dataset import generate
from tests.conftest import ROOT

from . import pages
from .command_lists import PARSED, PYTHON_NOT_RUN, RUN

SMALLER = {
    'hrformer_base_coco_256x192': 'hrformer_tiny_coco_256x192',
    'hrformer_small_coco_256x192': 'hrformer_tiny_coco_256x192',
}


def test_every_command_is_in_one_of_the_lists():
    found = {command for _, command in pages.all_commands()}
    assert len(found) > 60
    assert sorted(found - RUN.keys() - PARSED.keys()) == [], 'run it, or say why not'
    assert sorted((RUN.keys() | PARSED.keys()) - found) == [], 'no page has it'
    assert RUN.keys() & PARSED.keys() == set()


def parser_of(words: list[str]) -> tuple[Callable, list[str]] | None:
    """Parser of a command of this package and the words that it gets; None for other commands."""
    if words[0] == 'hrformer':
        assert words[1] in hrformer.COMMANDS
        name, rest = words[1].replace('-', '_'), words[2:]
    elif words[0] == 'python' and words[1].startswith('tools/'):
        assert (ROOT / words[1]).is_file()
        name, rest = Path(words[1]).stem, words[2:]
    elif words[:2] == ['bash', 'tools/dist_train.sh']:
        assert words[3].isdecimal()
        name, rest = 'train', [words[2], *words[4:]]
    elif words[:2] == ['bash', 'tools/dist_test.sh']:
        assert words[4].isdecimal()
        name, rest = 'test', [*words[2:4], *words[5:]]
    elif words[:2] == ['bash', 'tools/slurm_train.sh']:
        name, rest = 'train', [words[4], '--work-dir', *words[5:]]
    else:
        return None
    module = importlib.import_module(f'hrformer_mmpose.cli.{name}')
    if words[:2] == ['python', 'tools/benchmark.py']:
        return module.tool_parser, rest
    if name == 'predict':
        module = importlib.import_module('hrformer_mmpose.cli.predict.arguments')
    return module.parser, rest


def check_other(words: list[str]) -> None:
    """Check a command of another program as far as it names things of this repository."""
    if words[0] == 'make':
        assert f'\n{words[1]}:' in (ROOT / 'Makefile').read_text()
    elif words[:2] == ['pip', 'install']:
        extras = re.findall(r'\[([\w,]+)\]', ' '.join(words))
        known = (ROOT / 'pyproject.toml').read_text()
        assert all(f'\n{name} = [' in known for group in extras for name in group.split(','))
    elif words[:3] == ['python', '-m', 'hrformer_mmpose.synthetic']:
        assert {word for word in words if word.startswith('--')} <= {
            '--num-train',
            '--num-val',
            '--masks',
            '--seed',
        }
    elif words[0] == 'python':
        assert words[1].startswith('docs/')
        assert (ROOT / words[1]).is_file()
    elif words[0] == 'jupyter':
        assert (ROOT / words[2]).is_file()
    elif words[0] == 'uvicorn':
        assert 'app = ' in (ROOT / 'examples/service.py').read_text()
    else:
        assert words[0] in ('.', 'export', 'curl')


@pytest.mark.parametrize('command', [*RUN, *PARSED])
def test_a_command_can_be_parsed(command):
    for words in pages.simple_commands(command):
        if words == []:  # of settings alone
            continue
        found = parser_of(words)
        if found is None:
            check_other(words)
            continue
        parser, arguments = found
        parser().parse_args(arguments)
        for word in arguments:
            if re.fullmatch(r'(configs/.*\.py|hrformer_\w+_\d+x\d+)', word):
                assert zoo.find(word)


def test_a_wrong_flag_and_a_missing_config_are_found():
    parser, arguments = parser_of(['python', 'tools/train.py', 'CONFIG', '--rezume'])
    with pytest.raises(SystemExit):
        parser().parse_args(arguments)
    with pytest.raises(Exception, match='hrformer_huge'):
        test_a_command_can_be_parsed('python tools/train.py configs/hrformer_huge_coco_1x1.py')


@pytest.mark.parametrize('page', [*pages.PAGES, 'ARCHITECTURE.md', 'CONTRIBUTING.md'])
def test_scripts_named_in_the_text_exist(page):
    scripts = re.findall(r'`(?:python|bash) ((?:tools|docs|examples)/\w+\.\w+)', pages.read(page))
    assert [script for script in scripts if not (ROOT / script).is_file()] == []
    names = re.findall(r'`hrformer ([a-z][\w-]*)', pages.read(page))
    assert set(names) <= set(hrformer.COMMANDS)


# Running ------------------------------------------------------------------------------------------


@pytest.fixture(scope='session')
def kit(tmp_path_factory) -> Path:
    """Folder with everything that the commands name: the files of a user."""
    import cv2
    import numpy as np
    import torch
    from mmengine.config import Config

    from hrformer_mmpose.inference.torch_network import build
    from hrformer_mmpose.synthetic.motion import Film
    from tests.inference.detectors.networks import save_onnx
    from tests.official import state_dict

    kit = tmp_path_factory.mktemp('kit')
    data = generate(kit / 'data/demo', num_train=16, num_val=4, seed=0)
    (kit / 'work_dirs/demo').mkdir(parents=True)
    (kit / 'work_dirs/mine').mkdir()
    torch.manual_seed(0)
    for name, file in (
        ('hrformer_tiny_demo_112x84', 'work_dirs/demo/best_coco_AP_epoch_1.pth'),
        ('hrformer_tiny_coco_256x192', 'checkpoint.pth'),
    ):
        model = build(Config.fromfile(zoo.find(name)), name)
        torch.save(dict(state_dict=model.state_dict()), kit / file)
    for link in ('CHECKPOINT', 'work_dirs/mine/best_coco_AP_epoch_1.pth'):
        shutil.copy(kit / 'work_dirs/demo/best_coco_AP_epoch_1.pth', kit / link)
    torch.save(dict(state_dict(name='cls_small')), kit / 'hrt_small.pth')
    config = f"_base_ = ['{ROOT}/configs/quickstart/hrformer_tiny_demo_112x84.py']\n"
    (kit / 'work_dirs/mine/CONFIG.py').write_text(config)
    shutil.copytree(data / 'train2017', kit / 'photos')
    shutil.copy(data / 'annotations/person_keypoints_train2017.json', kit / 'annotations.json')
    shutil.copy(kit / 'annotations.json', kit / 'detections.json')  # its boxes
    photo = cv2.imread(str(next((kit / 'photos').iterdir())))
    cv2.imwrite(str(kit / 'image.jpg'), cv2.resize(photo, (260, 440)))
    film = Film(1, 8, (160, 160), fps=10, seed=0)
    codec = cv2.VideoWriter_fourcc(*'mp4v')
    writer = cv2.VideoWriter(str(kit / 'street.mp4'), codec, 10, (160, 160))
    for frame in film:
        writer.write(frame)
    writer.release()
    outputs = dict(dets=[[[4.0, 4.0, 60.0, 60.0, 0.9]]], labels=[[0]])
    types = dict(dets='float32', labels='int64')
    save_onnx(kit / 'detector.onnx', {k: np.array(v, types[k]) for k, v in outputs.items()})
    (kit / 'bin').mkdir()
    command = kit / 'bin/hrformer'
    command.write_text(f'#!{sys.executable}\nfrom hrformer_mmpose.cli.main import main\nmain()\n')
    command.chmod(0o755)
    python = kit / 'bin/python'  # a link would lose the virtual environment
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    run('hrformer export hrformer_tiny_coco_256x192 checkpoint.pth hrformer.onnx --no-check', kit)
    return kit


def run(command: str, folder: Path) -> str:
    """Run a command in a folder; returns its output."""
    environment = dict(
        os.environ,
        PATH=f'{folder}/bin:{os.environ["PATH"]}',
        PYTHONPATH=str(ROOT),
        OMP_NUM_THREADS='1',
    )
    done = subprocess.run(
        ['bash', '-c', command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f'{command}\n{done.stdout[-3000:]}'
    return done.stdout


def smaller(text: str) -> str:
    for name, other in SMALLER.items():
        text = text.replace(name, other)
    return text


def as_run(command: str) -> str:
    change = RUN[command]
    if isinstance(change, tuple):
        assert change[0] in command
        return smaller(command.replace(*change))
    return smaller(f'{command} {change}'.strip())


def is_run(block: pages.Block) -> bool:
    if block.is_shell:
        return any(command in RUN for command in pages.commands(block))
    return block.language == 'python'


@pytest.mark.slow
@pytest.mark.parametrize(
    'page', [page for page in pages.PAGES if any(map(is_run, pages.blocks(page)))]
)
def test_a_page_runs_from_top_to_bottom(page, kit, tmp_path, monkeypatch):
    if 'export' in pages.read(page) or 'onnx' in pages.read(page):
        pytest.importorskip('onnx')
        pytest.importorskip('onnxruntime')
    import torch

    folder = tmp_path / 'user'
    shutil.copytree(kit, folder, symlinks=True)
    for name in ('tools', 'configs'):
        (folder / name).symlink_to(ROOT / name)
    if 'checkpoint.pth hrformer.onnx' in pages.read(page):
        (folder / 'hrformer.onnx').unlink()
    monkeypatch.chdir(folder)
    names = dict(
        FILE=str(folder / 'hrt_small.pth'), here=str(folder), heatmaps=torch.rand(2, 17, 64, 48)
    )
    for block in pages.blocks(page):
        if block.is_shell:
            for command in filter(RUN.__contains__, pages.commands(block)):
                run(as_run(command), folder)
        elif block.language == 'python':
            key = next((k for k in PYTHON_NOT_RUN if k[0] == page and k[1] in block.text), None)
            if key is None:
                source = '\n' * (block.line - 1) + smaller(block.text)
                exec(compile(source, page, 'exec'), names)


def test_the_list_of_python_that_does_not_run_is_right():
    for page, start in PYTHON_NOT_RUN:
        assert any(block.text.startswith(start) for block in pages.blocks(page))


def test_blocks_of_python_are_python():
    for page in pages.PAGES:
        for block in pages.blocks(page):
            assert block.language in ('', 'bash', 'python'), f'{page}:{block.line}'
            if block.language == 'python':
                compile(block.text, f'{page}:{block.line}', 'exec')
