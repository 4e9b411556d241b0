"""A training or test that does not fit into memory ends with one line that names the batch size."""

import pytest
import torch

pytest.importorskip('mmpose')
from mmengine.config import Config

from hrformer_mmpose.engine.runner import Runner
from hrformer_mmpose.errors import DeviceError
from tests.conftest import ROOT
from tests.engine.test_resume import CONFIG

MESSAGE = 'CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 15 GiB'


def overflow(training: bool):
    """Makes the backbone run out of memory in training, or else in evaluation mode."""

    def change(runner):
        forward = runner.model.backbone.forward

        def limited(x):
            if runner.model.training == training:
                raise torch.OutOfMemoryError(MESSAGE)
            return forward(x)

        runner.model.backbone.forward = limited

    return change


@pytest.mark.parametrize(
    ('training', 'name', 'line'),
    [
        (True, 'train_dataloader', 'a batch of 4 images does not fit, halve {}.batch_size: 2'),
        (False, 'val_dataloader', 'a batch of 6 images does not fit, halve {}.batch_size: 3'),
    ],
)
def test_training_and_its_validation(training, name, line, train, tmp_path):
    options = {'val_dataloader.batch_size': 6}
    with pytest.raises(DeviceError) as caught:
        train(tmp_path, {1: 0.1, 2: 0.2}, prepare=overflow(training), **options)
    assert str(caught.value) == 'out of memory: ' + line.format(name)


@pytest.mark.parametrize('run', ['test', 'val'])
def test_test_and_validation_alone(run, tmp_path, synthetic_root, monkeypatch):
    monkeypatch.setenv('DEMO_ROOT', str(synthetic_root))
    path = tmp_path / 'tiny.py'
    path.write_text(CONFIG.format(root=ROOT, workers=0, persistent=False))
    cfg = Config.fromfile(path)
    cfg.work_dir, cfg.experiment_name = str(tmp_path), f'memory_{run}'
    cfg[f'{run}_dataloader'].batch_size = 1
    runner = Runner.from_cfg(cfg)
    overflow(training=False)(runner)
    with pytest.raises(DeviceError) as caught:
        getattr(runner, run)()
    assert str(caught.value) == (
        f'out of memory: not even {run}_dataloader.batch_size=1 fits: take a smaller network, or '
        'half precision'
    )
