"""Rotation of checkpoints without training: they are empty files."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip('mmpose')
from mmengine.logging import MessageHub

from hrformer_mmpose.engine import checkpoint_hook
from tests.engine.test_work_dir import listing


def rotation(folder, save_best):
    """Return a function that ends an epoch with metrics and returns the names of the files."""
    runner = SimpleNamespace(
        work_dir=str(folder), _resume=False, _load_from=None, epoch=0, iter=0,
        message_hub=MessageHub(folder.name), logger=logging.getLogger('rotation'),
        save_checkpoint=lambda folder, filename, *args, **kwargs: Path(folder, filename).touch(),
    )  # fmt: skip
    hook = checkpoint_hook.CheckpointHook(
        interval=1, save_best=save_best, rule='greater', max_keep_ckpts=2
    )
    hook.before_train(runner)

    def end_epoch(**metrics):
        hook._save_checkpoint(runner)
        runner.epoch += 1
        hook.after_val_epoch(runner, metrics)
        return {*listing(folder)} - {'last_checkpoint'}

    return end_epoch


def test_the_best_file_stays_until_a_better_one(tmp_path):
    end_epoch = rotation(tmp_path, 'AP')
    for number, score, best in ((1, 0.2, 1), (2, 0.1, 1), (3, 0.2, 1), (4, 0.3, 4)):
        newest = {f'epoch_{n}.pth' for n in (number - 1, number) if n}
        assert end_epoch(AP=score) == {*newest, f'best_AP_epoch_{best}.pth'}


def test_the_best_file_of_each_metric_stays(tmp_path):
    end_epoch = rotation(tmp_path, ['AP', 'AR'])
    end_epoch(AP=0.2, AR=0.4)
    best = {'best_AP_epoch_2.pth', 'best_AR_epoch_1.pth'}
    assert end_epoch(AP=0.3, AR=0.3) == {*best, 'epoch_1.pth', 'epoch_2.pth'}
    assert end_epoch(AP=0.1, AR=0.1) == {*best, 'epoch_2.pth', 'epoch_3.pth'}
