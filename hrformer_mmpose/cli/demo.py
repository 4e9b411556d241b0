"""The whole job on the built-in data set: draw people, train, test, picture.

It runs the tools as a user would type them, so that what it shows is what they do.
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
FIGURES = {
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
    """The flags of tools/demo.py."""
    flags = argparse.ArgumentParser(description='Train and test HRFormer-T on generated people')
    flags.add_argument('--data-root', default='data/demo', help='folder for the generated data')
    flags.add_argument('--work-dir', default='work_dirs/demo', help='folder for results')
    flags.add_argument('--num-train', type=int, default=700, help='training images')
    flags.add_argument('--num-val', type=int, default=100, help='held-out images')
    flags.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='handed to the tools'
    )
    return flags


def run(args: argparse.Namespace) -> None:
    """Do it all; returns when the pictures are written."""
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
        say(f'     going on with the run in {work_dir}; for a fresh one remove that folder')
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
    """Run tools/`name`.py as a user would type it.

    Raises:
        UserError: it ended with another status than 0.
    """
    command = [sys.executable, f'tools/{name}.py', *arguments]
    if options:
        command += ['--cfg-options', *options]
    say('$ python ' + ' '.join(command[1:]))
    done = subprocess.run(command)
    if done.returncode:
        raise UserError(f'tools/{name}.py ended with status {done.returncode}')


def _report(figures: dict, best: Path, sheet: Path, curves: Path, seconds: float) -> None:
    say(f'\nHRFormer-T on held-out generated people, {best}')
    for name, meaning in FIGURES.items():
        print(f'  {name:<7} {figures[f"coco/{name}"]:.3f}   {meaning}')
    print(f'\npredictions beside the truth: {sheet}\nloss and AP over time:        {curves}')
    print(f'the whole took {seconds / 60:.1f} minutes')


def say(text: str) -> None:
    """Print at once, also between the lines of the tools."""
    print(text, flush=True)
