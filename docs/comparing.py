"""Trainings of the demo's network with one thing changed, over several seeds: what is shared."""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev

import mmengine
import numpy as np
from mmengine.config import Config
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import hrformer_mmpose  # noqa: F401  (makes MMPose importable)
from hrformer_mmpose import zoo
from hrformer_mmpose.cli.launch import build_runner
from hrformer_mmpose.synthetic.dataset import generate

ROOT = Path(__file__).resolve().parents[1]
DEMO_CROP = (112, 84)
FIGURES = ('AP', 'AP50', 'AP75', 'AP90', 'pixel error')


def parser(text: str, work_dir: str, names: list[str]) -> argparse.ArgumentParser:
    """The flags of such a script."""
    made = argparse.ArgumentParser(description=text)
    made.add_argument('--data-root', default='data/demo')
    made.add_argument('--work-dir', default=work_dir)
    made.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    made.add_argument('--names', nargs='+', default=names, choices=names)
    made.add_argument('--epochs', type=int, default=7)
    made.add_argument(
        '--crop', type=int, nargs=2, default=DEMO_CROP, metavar=('HEIGHT', 'WIDTH'), help='pixels'
    )
    return made


def compare(args: argparse.Namespace, change: Callable[[Config, str], None]) -> None:
    """Train, test and print a table; what is done is kept, and a run started again goes on.

    Args:
        change: makes a variant of the demo's config, given the variant's name.
    """
    os.environ['DEMO_ROOT'] = args.data_root
    if not Path(args.data_root, 'annotations').exists():
        generate(args.data_root, num_train=700, num_val=100, progress=True)  # the demo's
    results: dict[str, list[dict]] = {name: [] for name in args.names}
    for seed in args.seeds:
        for name in args.names:
            cfg = config(name, seed, args)
            change(cfg, name)
            file = figures_file(name, seed, args)
            if not file.exists():
                ann_file = cfg.test_evaluator[0].ann_file
                runner = build_runner(cfg)
                runner.train()
                runner.test()
                file.write_text(json.dumps(_figures(cfg.work_dir, ann_file)))
            results[name].append(json.loads(file.read_text()))
    width = 2 + max(map(len, results))
    print(f'{"":<{width}}' + ''.join(f'{figure:>18}' for figure in FIGURES))
    for name, runs in results.items():
        columns = ([run[figure] for run in runs] for figure in FIGURES)
        texts = (f'{mean(c):.3f} +- {stdev(c) if c[1:] else 0:.3f}' for c in columns)
        print(f'{name:<{width}}' + ''.join(f'{text:>18}' for text in texts))


def figures_file(name: str, seed: int, args: argparse.Namespace) -> Path:
    """File with the figures of a training; other settings have others."""
    return Path(args.work_dir) / _setting(args) / f'{name.replace(" ", "_")}_{seed}/figures.json'


def _setting(args: argparse.Namespace) -> str:
    return f'{args.epochs}e_{args.crop[0]}x{args.crop[1]}'


def config(name: str, seed: int, args: argparse.Namespace) -> Config:
    """The demo's config with the script's settings."""
    cfg = Config.fromfile(zoo.find('hrformer_tiny_demo_112x84'))
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.train_cfg.max_epochs = args.epochs
    cfg.param_scheduler[1].update(end=args.epochs, T_max=args.epochs)
    cfg.randomness = dict(seed=seed)
    _resize(cfg, *args.crop)
    cfg.default_hooks.checkpoint.update(save_best=None, max_keep_ckpts=1)
    cfg.work_dir = str(figures_file(name, seed, args).parent)
    cfg.experiment_name = f'{_setting(args)}_{name}_{seed}'
    cfg.test_evaluator = [
        dict(cfg.test_evaluator, outfile_prefix=f'{cfg.work_dir}/results'),
        dict(type='DumpResults', out_file_path=f'{cfg.work_dir}/predictions.pkl'),
    ]
    cfg.resume = True
    cfg.launcher = 'none'
    return cfg


def _resize(cfg: Config, height: int, width: int) -> None:
    """Crops of another size; the targets' width follows less than in proportion."""
    cfg.codec.update(
        input_size=(width, height),
        heatmap_size=(width // 2, height // 2),
        sigma=1 + height / DEMO_CROP[0],
    )
    cfg.model.head.decoder = cfg.codec
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        for step in loader.dataset.pipeline:
            if step.type == 'hrformer_mmpose.TopdownAffine':
                step.input_size = cfg.codec.input_size
            elif step.type == 'GenerateTarget':
                step.encoder = cfg.codec


def _figures(work_dir: str, ann_file: str) -> dict[str, float]:
    """AP, AP50, AP75, AP90 and the mean distance to labelled keypoints in pixels of the crop."""
    truth = COCO(ann_file)
    evaluation = COCOeval(truth, truth.loadRes(f'{work_dir}/results.keypoints.json'), 'keypoints')
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval['precision'][:, :, 0, 0, 0].mean(axis=1)  # one value a threshold
    distances = []
    for sample in mmengine.load(f'{work_dir}/predictions.pkl'):
        found, labelled = sample['pred_instances']['keypoints'], sample['gt_instances']['keypoints']
        shown = np.asarray(sample['gt_instances']['keypoints_visible']) > 0
        pixel = np.asarray(sample['input_scale']) / sample['input_size']
        distances.append(np.linalg.norm((found - labelled) / pixel, axis=-1)[shown])
    values = (precision.mean(), precision[0], precision[5], precision[8])
    values = (*map(float, values), float(np.concatenate(distances).mean()))
    return dict(zip(FIGURES, values, strict=True))
