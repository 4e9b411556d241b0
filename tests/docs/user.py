"""A user's folder: a checkout, and small files under the names that the pages' commands use."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config

from hrformer_mmpose import zoo
from hrformer_mmpose.inference.torch_network import build
from hrformer_mmpose.synthetic.dataset import generate
from hrformer_mmpose.synthetic.motion import Film
from tests.conftest import ROOT
from tests.datasets.segmentation_data import cityscapes
from tests.datasets.sets import DETECTIONS, SETS
from tests.inference.detectors.networks import save_onnx
from tests.official import state_dict

NOT_IN_A_CHECKOUT = {'build', 'data', 'dist', 'work_dirs'}
# Runs the tasks of `srun --ntasks=N ... COMMAND` on this machine. Where there is no GPU,
# `--launcher slurm` is refused; PyTorch's launcher takes its place.
SRUN = """#!/usr/bin/env python
import os, subprocess, sys
options = dict(x[2:].split('=', 1) for x in sys.argv[1:] if x.startswith('--') and '=' in x)
start = sys.argv.index('python')
command = [x.replace('slurm', 'pytorch') if x == 'slurm' else x for x in sys.argv[start:]]
assert options['partition'] == 'PARTITION' and options['job-name'] == 'JOB'
shared = dict(WORLD_SIZE=options['ntasks'], MASTER_ADDR='127.0.0.1', MASTER_PORT=os.environ['PORT'])
tasks = [
    subprocess.Popen(command, env={**os.environ, **shared, 'RANK': str(i), 'LOCAL_RANK': str(i)})
    for i in range(int(options['ntasks']))
]
sys.exit(max(task.wait() for task in tasks))
"""


def write_kit(kit: Path) -> None:
    """Write everything that the commands name."""
    data = generate(kit / 'data/demo', num_train=20, num_val=4, seed=0)  # enough to calibrate
    _write_weights(kit)
    _write_images(kit, data)
    _write_sets(kit / 'sets', data)
    for name in ('coco', 'crowdpose', 'cityscapes'):  # the default folders
        (kit / f'data/{name}').symlink_to(f'../sets/{name}')
    (kit / 'COCO_MINI').symlink_to('sets/coco')
    (kit / 'COCO').mkdir()
    (kit / 'COCO/val2017').symlink_to('../sets/coco/val2017')
    (kit / 'COCO/train2017-part').symlink_to('../sets/coco/train2017')
    for split in ('train', 'val'):
        name = f'person_keypoints_{split}2017.json'
        (kit / name).symlink_to(f'sets/coco/annotations/{name}')
    write_environment(kit / '.venv', pip=False)


def _write_weights(kit: Path) -> None:
    for folder in ('demo', 'mine'):
        (kit / f'work_dirs/{folder}').mkdir(parents=True)
    torch.manual_seed(0)
    for name, files in {
        'hrformer_tiny_demo_112x84': (
            'work_dirs/demo/best_coco_AP_epoch_1.pth',
            'work_dirs/mine/best_coco_AP_epoch_1.pth',
            'CHECKPOINT',
        ),
        'hrformer_tiny_coco_256x192': ('checkpoint.pth', 'b.pth', 't.pth'),
    }.items():
        model = build(Config.fromfile(zoo.find(name)), name)
        for file in files:
            torch.save(dict(state_dict=model.state_dict()), kit / file)
    for name, file in (('cls_small', 'hrt_small.pth'), ('seg_small', 'segmentation.pth')):
        torch.save(dict(state_dict(name=name)), kit / file)
    config = f"_base_ = ['{ROOT}/configs/quickstart/hrformer_tiny_demo_112x84.py']\n"
    (kit / 'work_dirs/mine/CONFIG.py').write_text(config)


def _write_images(kit: Path, data: Path) -> None:
    shutil.copytree(data / 'train2017', kit / 'photos')
    shutil.copy(data / 'annotations/person_keypoints_train2017.json', kit / 'annotations.json')
    shutil.copy(kit / 'annotations.json', kit / 'detections.json')  # its boxes
    photo = cv2.imread(str(next((kit / 'photos').iterdir())))
    for name in ('image.jpg', 'photo.jpg'):
        cv2.imwrite(str(kit / name), cv2.resize(photo, (260, 440)))
    film = Film(1, 8, (160, 160), fps=10, seed=0)
    codec = cv2.VideoWriter_fourcc(*'mp4v')
    writer = cv2.VideoWriter(str(kit / 'street.mp4'), codec, 10, (160, 160))
    for frame in film:
        writer.write(frame)
    writer.release()
    outputs = dict(dets=[[[4.0, 4.0, 60.0, 60.0, 0.9]]], labels=[[0]])
    types = dict(dets='float32', labels='int64')
    save_onnx(kit / 'detector.onnx', {k: np.array(v, types[k]) for k, v in outputs.items()})


def _write_sets(sets: Path, data: Path) -> None:
    """Public data sets in their layouts."""
    shutil.copytree(data, sets / 'coco')
    boxes = next((sets / 'coco/person_detection_results').glob('*.json'))
    boxes.rename(sets / 'coco' / DETECTIONS)
    SETS['crowdpose'].write(sets / 'crowdpose', data)
    cityscapes(sets / 'cityscapes')
    for name, classes, count in (('imagenet', 1000, 1), ('imagenet-4', 4, 4)):
        for split in ('train', 'val'):
            for number in range(classes):
                folder = sets / name / split / f'n{number:08d}'
                folder.mkdir(parents=True)
                for i in range(count):
                    pixels = np.full((24, 32, 3), number % 256, np.uint8)
                    cv2.imwrite(str(folder / f'{i}.JPEG.png'), pixels)


def write_environment(venv: Path, shared: bool = True, pip: bool = True) -> None:
    """Make an environment; a shared one also has the packages of the one that runs the tests."""
    options = [] if pip else ['--without-pip']
    subprocess.run([sys.executable, '-m', 'venv', *options, venv], check=True)
    (packages,) = venv.glob('lib/python*/site-packages')
    folders = [path for path in sys.path if path.endswith('site-packages')]
    if shared:
        lines = ''.join(f'import site; site.addsitedir({path!r})\n' for path in folders)
        (packages / 'shared.pth').write_text(lines)
        for name in ('.installed', '.triton'):  # make need not install
            (venv / name).touch()
        _write_script(
            venv / 'bin/hrformer',
            f'#!{venv}/bin/python\nfrom hrformer_mmpose.cli.main import main\nmain()\n',
        )
        _write_script(venv / 'bin/srun', SRUN)


def _write_script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


class User:
    """A folder with the files of the kit and a checkout, and the shell of a user in it.

    Args:
        folder: new folder.
        kit: folder of `write_kit`.
        variables: of the environment.
    """

    def __init__(self, folder: Path, kit: Path, variables: Mapping[str, str]):
        self.folder = folder
        shutil.copytree(kit, folder, symlinks=True, ignore=shutil.ignore_patterns('.venv'))
        (folder / '.venv').symlink_to(kit / '.venv')
        for path in ROOT.iterdir():
            if path.name.startswith('.') or path.name in NOT_IN_A_CHECKOUT:
                continue
            if path.name in ('docs', 'examples'):  # commands write there
                shutil.copytree(path, folder / path.name)
            elif not path.name.endswith('.egg-info'):
                (folder / path.name).symlink_to(path)
        self.variables = dict(variables, OMP_NUM_THREADS='1')
        self.servers: list[subprocess.Popen] = []

    def environment(self, venv: Path) -> dict[str, str]:
        # The tests' backend of matplotlib draws no pictures in a notebook.
        inherited = {name: os.environ[name] for name in os.environ if name != 'MPLBACKEND'}
        return {
            **inherited,
            **self.variables,
            'PATH': f'{venv}/bin:{os.environ["PATH"]}',
            'PYTHONPATH': self.variables.get('PYTHONPATH', ''),
            'PIP_REQUIRE_VIRTUALENV': '1',  # never into the Python that made the environment
        }

    def run(self, script: str, venv: Path | None = None) -> str:
        """Run lines in one shell; returns their output."""
        done = subprocess.run(
            ['bash', '-ec', script],
            cwd=self.folder,
            env=self.environment(venv or self.folder / '.venv'),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, f'{script}\n{done.stdout[-3000:]}'
        return done.stdout

    def start(self, command: str, venv: Path, url: str, seconds: float = 180) -> None:
        """Start a server in place of the one before and wait until `url` answers."""
        self.stop()
        log = self.folder / 'server.log'
        with open(log, 'w') as file:
            server = subprocess.Popen(
                ['bash', '-c', command],
                cwd=self.folder,
                env=self.environment(venv),
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.servers.append(server)
        end = time.monotonic() + seconds
        while True:
            try:
                with urllib.request.urlopen(url, timeout=10) as answer:
                    assert answer.status == 200
                return
            except urllib.error.HTTPError as error:
                if error.code == 404:  # it listens
                    return
                raise
            except OSError:
                ended = server.poll() is not None or time.monotonic() > end
                assert not ended, f'{command}\n{log.read_text()[-3000:]}'
                time.sleep(0.5)

    def stop(self) -> None:
        """End the servers."""
        while self.servers:
            server = self.servers.pop()
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(timeout=60)


def pictures(notebook: Path) -> int:
    """Return the number of pictures in the outputs of a notebook."""
    cells = json.loads(notebook.read_text(encoding='utf-8'))['cells']
    outputs = [output for cell in cells for output in cell.get('outputs', [])]
    return sum('image/png' in output.get('data', {}) for output in outputs)
