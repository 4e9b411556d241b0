"""The tools as a user types them, on a small generated data set."""

import json
import os
import subprocess
import sys

import mmengine
import numpy as np
import pytest
import torch

pytest.importorskip('mmpose')
from tests.conftest import ROOT

CONFIG = 'configs/hrformer_tiny_demo_112x84.py'
FIGURES = ['AP', 'AP .5', 'AP .75', 'AP (M)', 'AP (L)', 'AR', 'AR .5', 'AR .75', 'AR (M)', 'AR (L)']


def shell(*command, root, port=29512) -> str:
    """Run in the repository's root; return standard and error output."""
    path = os.path.dirname(sys.executable) + os.pathsep + os.environ['PATH']
    env = {**os.environ, 'DEMO_ROOT': str(root), 'PORT': str(port), 'PATH': path}
    env['OMP_NUM_THREADS'] = '1'  # two would wait for each other beside other tests
    done = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def train(work_dir, root, *arguments, epochs=2, dist=0, options=()):
    start = ['bash', 'tools/dist_train.sh', CONFIG, dist] if dist else [
        sys.executable, 'tools/train.py', CONFIG,
    ]  # fmt: skip
    options = [
        f'train_cfg.max_epochs={epochs}',
        'train_cfg.val_interval=2',
        'train_dataloader.batch_size=4',
        'randomness.seed=1',
        'default_hooks.logger.interval=1',
        *options,
    ]
    return shell(*start, '--work-dir', work_dir, *arguments, '--cfg-options', *options, root=root)


@pytest.fixture(scope='module')
def trained(synthetic_root, tmp_path_factory):
    """A work folder after two epochs, and what the terminal showed."""
    work_dir = tmp_path_factory.mktemp('work')
    return work_dir, train(work_dir, synthetic_root)


@pytest.fixture(scope='module')
def tested(trained, synthetic_root, tmp_path_factory):
    """The figures of one process, from annotated boxes."""
    folder = tmp_path_factory.mktemp('tested')
    out = folder / 'out.json'
    checkpoint = trained[0] / 'epoch_2.pth'
    log = shell(
        sys.executable, 'tools/test.py', CONFIG, checkpoint, '--work-dir', folder, '--out', out,
        '--dump', folder / 'dump.pkl', root=synthetic_root,
    )  # fmt: skip
    return folder, log, json.loads(out.read_text())


def test_training_writes_what_mmpose_users_expect(trained):
    work_dir, log = trained
    assert (work_dir / 'last_checkpoint').read_text().strip().endswith('epoch_2.pth')
    assert (work_dir / 'hrformer_tiny_demo_112x84.py').exists()
    assert list(work_dir.glob('*/vis_data/scalars.json'))
    assert list(work_dir.glob('best_coco_AP_epoch_2.pth'))
    assert 'using stand-ins for' in log or 'mmdet' in sys.modules
    assert 'acc_pose' in log
    assert 'coco/AP (L)' in log


def test_testing_gives_the_ten_figures(tested):
    folder, log, figures = tested
    names = [f'coco/{name}' for name in FIGURES]
    assert list(figures) == [*names, 'report']
    assert all(-1 <= figures[name] <= 1 for name in names)
    report = figures['report']
    assert report['settings']['boxes']['source'] == 'annotated'
    assert report['settings']['boxes']['count'] == report['counts']['predicted'] > 5
    assert 'left_shoulder' in log
    assert list(folder.glob('*/precision_recall.png'))
    assert 'coco/AP' in log
    assert (folder / 'dump.pkl').stat().st_size > 1000
    # Not in the work folder, which may hold the config of a training.
    assert not list(folder.glob('*.py'))
    assert list(folder.glob('*/hrformer_tiny_demo_112x84.py'))


@pytest.mark.slow
def test_the_folded_network_gives_the_same_figures(trained, tested, synthetic_root, tmp_path):
    out = tmp_path / 'out.json'
    log = shell(
        sys.executable, 'tools/test.py', CONFIG, trained[0] / 'epoch_2.pth', '--work-dir', tmp_path,
        '--out', out, '--no-fuse', '--dump', tmp_path / 'dump.pkl', root=synthetic_root,
    )  # fmt: skip
    assert 'BatchNorm folded' not in log
    assert 'BatchNorm folded' in tested[1]
    figures = json.loads(out.read_text())
    assert all(figures[f'coco/{name}'] == tested[2][f'coco/{name}'] for name in FIGURES)
    folded, plain = (mmengine.load(folder / 'dump.pkl') for folder in (tested[0], tmp_path))
    for a, b in zip(folded, plain, strict=True):
        a, b = (sample['pred_instances']['keypoint_scores'] for sample in (a, b))
        assert np.abs(a - b).max() < 1e-5 * max(np.abs(b).max(), 1)


def test_a_checkpoint_loads_with_mmposes_own_backbone(trained):
    from hrformer_mmpose.backbones import HRFormer

    state = torch.load(trained[0] / 'epoch_2.pth', map_location='cpu')['state_dict']
    backbone = {k.removeprefix('backbone.'): v for k, v in state.items() if 'backbone.' in k}
    HRFormer(arch='tiny').load_state_dict(backbone)
    from mmpose.models.backbones import HRFormer as MMPoseHRFormer

    from tests.backbones.test_arch import mmpose_extra

    MMPoseHRFormer(extra=mmpose_extra('tiny')).load_state_dict(backbone)


@pytest.mark.slow
def test_two_processes_give_one_processes_figures(trained, tested, synthetic_root, tmp_path):
    out = tmp_path / 'out.json'
    checkpoint = trained[0] / 'epoch_2.pth'
    shell(
        'bash', 'tools/dist_test.sh', CONFIG, checkpoint, 2, '--work-dir', tmp_path, '--out', out,
        root=synthetic_root, port=29513,
    )  # fmt: skip
    figures, expected = json.loads(out.read_text()), dict(tested[2])
    report, expected_report = figures.pop('report'), expected.pop('report')
    assert figures == expected
    assert report['counts'] == expected_report['counts']
    assert report['persons'] == expected_report['persons']


def test_the_shell_tools_say_how_they_are_used():
    for name in ('dist_train', 'dist_test', 'slurm_train', 'slurm_test'):
        done = subprocess.run(
            ['bash', f'tools/{name}.sh'], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 2
        assert done.stderr.startswith(f'usage: bash tools/{name}.sh ')


def test_the_estimator_gives_the_poses_of_the_test(trained, tested, synthetic_root, monkeypatch):
    from hrformer_mmpose import PoseEstimator

    monkeypatch.setenv('DEMO_ROOT', str(synthetic_root))
    samples = mmengine.load(tested[0] / 'dump.pkl')
    by_image = {}
    for sample in samples:
        by_image.setdefault(sample['img_path'], []).append(sample)
    estimator = PoseEstimator(ROOT / CONFIG, trained[0] / 'epoch_2.pth', 'cpu', batch_size=3)
    boxes = [[sample['pred_instances']['bboxes'][0] for sample in s] for s in by_image.values()]
    found = estimator([*by_image], boxes)
    assert sum(map(len, found)) == len(samples) > 5
    for poses, expected in zip(found, by_image.values(), strict=True):
        for pose, sample in zip(poses, expected, strict=True):
            wanted = sample['pred_instances']
            np.testing.assert_allclose(pose.keypoints, wanted['keypoints'][0], atol=0.01)
            np.testing.assert_allclose(pose.scores, wanted['keypoint_scores'][0], atol=1e-5)
