"""Pre-train, then fine-tune, on generated data: `tools/pretrain_demo.py`."""

import argparse
import json
import os
import time
from pathlib import Path

from ..errors import UserError
from ..synthetic import dataset as synthetic
from ..synthetic import shapes
from .demo import CONFIG as POSE
from .demo import say, tool

SHAPES = 'configs/hrformer_tiny_shapes_64.py'
MIN_EPOCHS = 2  # the first epoch of pre-training is all warm-up


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    flags = argparse.ArgumentParser(
        description='Pre-train HRFormer-T on drawn shapes, then train poses from its backbone'
    )
    flags.add_argument('--shapes-root', default='data/shapes', help='folder for the shapes')
    flags.add_argument('--data-root', default='data/demo', help='folder for the people')
    flags.add_argument('--work-dir', default='work_dirs/pretrain_demo', help='folder for results')
    flags.add_argument('--num-train', type=int, default=700, help='training images of people')
    flags.add_argument('--num-val', type=int, default=100, help='held-out images of people')
    flags.add_argument('--epochs', type=int, default=8, help='epochs of pre-training')
    flags.add_argument('--pose-epochs', type=int, default=2, help='epochs of training poses')
    return flags


def run(args: argparse.Namespace) -> None:
    """Run all steps.

    Raises:
        UserError: too few epochs, a folder holds other files, or a tool failed.
    """
    for flag, epochs in (('--epochs', args.epochs), ('--pose-epochs', args.pose_epochs)):
        if epochs < MIN_EPOCHS:
            raise UserError(f'{flag} {epochs}: at least {MIN_EPOCHS} are needed')
    start = time.monotonic()
    work_dir = Path(args.work_dir)
    say('1/4  drawing shapes and people')
    os.environ['SHAPES_ROOT'] = str(shapes.generate(args.shapes_root))
    try:
        synthetic.generate(args.data_root, args.num_train, args.num_val, progress=True)
    except ValueError as error:
        raise UserError(str(error)) from error
    os.environ['DEMO_ROOT'] = args.data_root

    say('2/4  pre-training HRFormer-T to classify shapes')
    first = work_dir / 'shapes'
    tool('train', SHAPES, '--work-dir', str(first), options=_epochs(args.epochs))
    best = max(first.glob('best_accuracy_top1_*.pth'), key=lambda path: path.stat().st_mtime)
    shape_metrics = _test(SHAPES, best, first)

    say('3/4  training poses from its backbone')
    second = work_dir / 'pose'
    options = [
        'model.backbone.init_cfg.type=Pretrained',
        f'model.backbone.init_cfg.checkpoint={best}',
        *_epochs(args.pose_epochs),
        f'param_scheduler.1.T_max={args.pose_epochs}',
    ]
    tool('train', POSE, '--work-dir', str(second), options=options)

    say('4/4  testing the poses')
    last = second / f'epoch_{args.pose_epochs}.pth'
    pose_metrics = _test(POSE, last, second)
    top1, chance = shape_metrics['accuracy/top1'], 100 / len(shapes.CLASSES)
    say(f'\n{top1:.0f} % top-1 on held-out shapes (chance: {chance:.0f} %), {best}')
    say(f'AP {pose_metrics["coco/AP"]:.3f} on held-out people, {last}')
    say(f'total time: {(time.monotonic() - start) / 60:.1f} minutes')


def _epochs(number: int) -> list[str]:
    """Return the config options of a training of `number` epochs, schedule included."""
    return [f'train_cfg.max_epochs={number}', f'param_scheduler.1.end={number}']


def _test(config: str, checkpoint: Path, work_dir: Path) -> dict[str, float]:
    """Run `tools/test.py` and return its metrics."""
    out = work_dir / 'test.json'
    flags = ('--work-dir', str(work_dir / 'test'), '--out', str(out))
    tool('test', config, str(checkpoint), *flags, options=[])
    return json.loads(out.read_text())
