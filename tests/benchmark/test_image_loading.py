"""Classification's input pipeline beside timm's, on a clock that the tests set."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip('mmpose')
from mmpose.registry import MODELS

from hrformer_mmpose import zoo
from hrformer_mmpose.benchmark import image_loading
from hrformer_mmpose.benchmark.timing import Timer
from hrformer_mmpose.cli import benchmark_data
from hrformer_mmpose.datasets.collate import pseudo_collate
from hrformer_mmpose.errors import ConfigError, DataError
from hrformer_mmpose.synthetic import shapes

CONFIG = 'hrformer_tiny_imagenet_224'


class CountingTimer(Timer):
    """Clock on which the n-th call takes n seconds."""

    calls = 0

    def __init__(self):
        super().__init__(torch.device('cpu'))

    def seconds(self, call):
        call()
        self.calls += 1
        return float(self.calls)


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return shapes.generate(tmp_path_factory.mktemp('shapes'), num_train=2, num_val=1) / 'train'


@pytest.fixture
def recorded(monkeypatch):
    """Arguments of `create_transform`, in place of timm's."""
    calls = []

    def create_transform(**settings):
        calls.append(settings)
        return lambda image: torch.zeros(3, 224, 224)

    data = SimpleNamespace(create_transform=create_transform)
    monkeypatch.setitem(sys.modules, 'timm', SimpleNamespace(data=data))
    monkeypatch.setitem(sys.modules, 'timm.data', data)
    return calls


def test_images_a_second_beside_timm(images, recorded, capsys):
    """Calls take 3, 4, 5 and 6 s after a warm-up of 1 and 2 s, for 6 images."""
    table = image_loading.time_images(str(images), CONFIG, 6, 2, CountingTimer())
    training, timm = table[2:4]
    # Ours in 3 and 5 s, timm's in 4 and 6 s.
    assert training == (
        '| training, hrformer_mmpose | 1.5 | (1.2 to 2.0) | 1.27 | (1.20 to 1.33) |'
    )
    assert timm == '| training, timm | 1.2 | (1.0 to 1.5) | 1.00 | (1.00 to 1.00) |'
    assert len(table) == 6
    assert 'not timed' not in capsys.readouterr().out


def test_timm_gets_the_settings_of_the_config(images, recorded):
    """Those that the authors' `build_transform` passes to timm."""
    image_loading.time_images(str(images), CONFIG, 2, 1, CountingTimer())
    training, test = recorded
    for settings, expected in ((training, [0.485, 0.456, 0.406]), (test, [0.485, 0.456, 0.406])):
        assert settings.pop('mean') == pytest.approx(expected)
        assert settings.pop('std') == pytest.approx([0.229, 0.224, 0.225])
        assert settings.pop('interpolation') == 'bicubic'
        assert settings.pop('input_size') == 224
    assert training == dict(
        is_training=True,
        scale=(0.08, 1.0),
        ratio=(3 / 4, 4 / 3),
        hflip=0.5,
        color_jitter=None,
        auto_augment='rand-m9-n2-p0.5-mstd0.5-inc1',
        re_prob=0.25,
        re_mode='pixel',
    )
    assert test == dict(is_training=False, crop_pct=0.875)


def test_without_timm_it_says_so(monkeypatch, capsys):
    """On generated images, by the command."""
    monkeypatch.setitem(sys.modules, 'timm', None)
    monkeypatch.setattr(image_loading, 'GENERATED', (48, 64, 95))
    flags = ['images', '--images', '2', '--rounds', '1', '--config', CONFIG]
    benchmark_data.run(benchmark_data.parser().parse_args(flags))
    *_, training, test, line = capsys.readouterr().out.strip().splitlines()
    assert training.startswith('| training, hrformer_mmpose |')
    assert test.endswith('|  |  |')
    assert line.startswith("timm's pipeline: not timed (")
    assert line.endswith('pip install timm torchvision')


def test_what_cannot_be_timed(tmp_path, images):
    with pytest.raises(DataError, match='holds 0 images: name a folder'):
        image_loading.time_images(str(tmp_path), CONFIG, 2, 1)
    with pytest.raises(ConfigError, match='trains no classifier'):
        image_loading.time_images(str(images), 'hrformer_tiny_demo_112x84', 2, 1)


def test_timm_gives_the_same_test_images(tmp_path):
    """To the difference of OpenCV's and Pillow's JPEG decoders."""
    create_transform = pytest.importorskip('timm.data').create_transform
    cfg = zoo.read_config(CONFIG)
    (path, _) = image_loading._generate(tmp_path, 2)
    transform = create_transform(**image_loading._timm_settings(cfg, CONFIG, is_training=False))
    sample = image_loading._pipeline(cfg, is_training=False)(dict(img_path=path, gt_label=0))
    preprocessor = MODELS.build(cfg.model.data_preprocessor)
    ours = preprocessor(pseudo_collate([sample]), False)['inputs'][0]
    theirs = transform(image_loading._read(path))
    assert ours.shape == theirs.shape == (3, 224, 224)
    np.testing.assert_allclose(ours, theirs, atol=4 / 57)
