"""Generate people, train, test and draw the predictions: `tools/demo.py`.

The steps run the tools as a user would type them.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import mmengine

from ..errors import UserError
from ..synthetic.dataset import generate
from . import demo_pictures

CONFIG = 'configs/hrformer_tiny_demo_112x84.py'
METRICS = {
    'AP': 'OKS 0.50:0.95, all',
    'AP .5': 'OKS 0.50',
    'AP .75': 'OKS 0.75',
    'AP (M)': 'medium persons',
    'AP (L)': 'large persons',
    'AR': 'OKS 0.50:0.95, all',
    'AR .5': 'OKS 0.50',
    'AR .75': 'OKS 0.75',
    'AR (M)': 'medium persons',
    'AR (L)': 'large persons',
}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    flags = argparse.ArgumentParser(description='Train and test HRFormer-T on generated people')
    flags.add_argument('--data-root', default='data/demo', help='folder for the generated data')
    flags.add_argument('--work-dir', default='work_dirs/demo', help='folder for results')
    flags.add_argument('--num-train', type=int, default=700, help='training images')
    flags.add_argument('--num-val', type=int, default=100, help='held-out images')
    flags.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='passed to the tools'
    )
    return flags


def run(args: argparse.Namespace) -> None:
    """Run all steps."""
    start = time.monotonic()
    say('1/4  drawing people')
    try:
        generate(args.data_root, args.num_train, args.num_val, progress=True)
    except ValueError as error:
        raise UserError(str(error)) from error
    os.environ['DEMO_ROOT'] = args.data_root
    work_dir = Path(args.work_dir)

    say('2/4  training HRFormer-T')
    resume = ['--resume'] if (work_dir / 'last_checkpoint').exists() else []
    if resume:
        say(f'     continuing the run in {work_dir}; to start over, remove that folder')
    tool('train', CONFIG, '--work-dir', str(work_dir), *resume, options=args.cfg_options)

    say('3/4  testing the best checkpoint')
    best = max(work_dir.glob('best_coco_AP_epoch_*.pth'), key=lambda path: path.stat().st_mtime)
    out, dump = work_dir / 'test.json', work_dir / 'predictions.pkl'
    results = ('--work-dir', str(work_dir / 'test'), '--out', str(out), '--dump', str(dump))
    tool('test', CONFIG, str(best), *results, options=args.cfg_options)

    say('4/4  drawing pictures')
    ann_file = Path(args.data_root) / 'annotations/person_keypoints_val2017.json'
    sheet, curves = work_dir / 'predictions.png', work_dir / 'curves.png'
    demo_pictures.prediction_sheet(mmengine.load(dump), str(ann_file), str(sheet))
    demo_pictures.training_curves(str(work_dir), str(curves))
    _report(json.loads(out.read_text()), best, sheet, curves, time.monotonic() - start)


def tool(name: str, *arguments: str, options: list[str]) -> None:
    """Run `tools/NAME.py`.

    Args:
        name: name of the tool.
        arguments: its arguments.
        options: values of its --cfg-options.

    Raises:
        UserError: the exit status is not 0.
    """
    command = [sys.executable, f'tools/{name}.py', *arguments]
    if options:
        command += ['--cfg-options', *options]
    say('$ python ' + ' '.join(command[1:]))
    completed = subprocess.run(command)
    if completed.returncode:
        raise UserError(f'tools/{name}.py ended with status {completed.returncode}')


def _report(metrics: dict, best: Path, sheet: Path, curves: Path, seconds: float) -> None:
    say(f'\nHRFormer-T on held-out generated people, {best}')
    for name, meaning in METRICS.items():
        print(f'  {name:<7} {metrics[f"coco/{name}"]:.3f}   {meaning}')
    print(f'\npredictions and ground truth: {sheet}\nloss and AP over time:        {curves}')
    print(f'total time: {seconds / 60:.1f} minutes')


def say(text: str) -> None:
    """Print without buffering, to keep the order with the output of the tools."""
    print(text, flush=True)
