"""Trainings of a moment, in this process."""

import itertools

import pytest


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it."""


@pytest.fixture
def train(tmp_path, synthetic_root, monkeypatch):
    """Trains a network of a moment in a folder; returns the runner.

    Its options are entries of the config. `scores` are the APs that validations give, by epoch; a
    config without them is not validated. `prepare` is called with the runner before it trains.
    """
    pytest.importorskip('mmpose')
    from mmengine.config import Config

    from hrformer_mmpose.engine.runner import Runner
    from tests.engine.test_resume import CONFIG

    monkeypatch.setenv('DEMO_ROOT', str(synthetic_root))
    path = tmp_path / 'tiny.py'
    path.write_text(CONFIG.format(workers=0, persistent=False))
    numbers = itertools.count()

    def run(work_dir, scores=None, prepare=None, **options):
        cfg = Config.fromfile(path)
        cfg.work_dir = str(work_dir)
        # MMEngine hands out loggers and visualizers by name, those of earlier tests included.
        cfg.experiment_name = cfg.visualizer.name = f'{tmp_path.name}_{next(numbers)}'
        cfg.train_dataloader.batch_size = 4
        cfg.train_dataloader.dataset.indices = 8
        cfg.val_dataloader.dataset.indices = 2
        cfg.train_cfg = dict(max_epochs=2, val_interval=1)
        cfg.randomness = dict(seed=5)
        if scores is None:
            cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
        cfg.merge_from_dict(options)
        runner = Runner.from_cfg(cfg)
        if scores is not None:
            evaluate = lambda size: {'coco/AP': scores[runner.epoch]}  # noqa: E731
            runner.val_loop.evaluator.evaluate = evaluate
        if prepare:
            prepare(runner)
        runner.train()
        return runner

    return run
