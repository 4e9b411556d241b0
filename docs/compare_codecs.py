"""Trains HRFormer-T on the built-in data with each codec and several seeds, and compares them.

python docs/compare_codecs.py [--data-root data/demo] [--seeds 0 1 2] [--epochs 7]

Data, network, schedule and seeds are the demo's; only the codec and the crop it needs differ. What
is done is kept in the work folder: started again, it goes on.
"""

import argparse
import json
import os
from pathlib import Path
from statistics import mean, stdev

import mmengine
import numpy as np
from mmengine.config import Config
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import hrformer_mmpose  # noqa: F401  (makes MMPose importable)
from hrformer_mmpose.datasets.synthetic import generate
from hrformer_mmpose.engine.launch import build_runner

ROOT = Path(__file__).resolve().parents[1]
CODECS = {
    'MSRA': dict(type='hrformer_mmpose.MSRAHeatmap'),
    'DARK': dict(type='hrformer_mmpose.MSRAHeatmap', unbiased=True, blur_kernel_size=11),
    'UDP': dict(type='hrformer_mmpose.UDPHeatmap', blur_kernel_size=11),
}
FIGURES = ('AP', 'AP50', 'AP75', 'AP90', 'pixel error')


def config(name: str, seed: int, args: argparse.Namespace) -> Config:
    """The demo's config with another codec, and the crop that goes with it."""
    cfg = Config.fromfile(ROOT / 'configs/hrformer_tiny_demo_112x84.py')
    sizes = {key: cfg.codec[key] for key in ('input_size', 'heatmap_size', 'sigma')}
    codec = {**sizes, **CODECS[name]}
    cfg.codec = cfg.model.head.decoder = codec
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        for step in loader.dataset.pipeline:
            if step.type == 'TopdownAffine':
                step.use_udp = name == 'UDP'
            elif step.type == 'GenerateTarget':
                step.encoder = codec
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.train_cfg.max_epochs = args.epochs
    cfg.param_scheduler[1].update(end=args.epochs, T_max=args.epochs)
    cfg.randomness = dict(seed=seed)
    cfg.default_hooks.checkpoint.update(save_best=None, max_keep_ckpts=1)
    cfg.work_dir = str(Path(args.work_dir) / f'{name}_{seed}')
    cfg.experiment_name = f'{name}_{seed}'
    cfg.test_evaluator = [
        dict(cfg.test_evaluator, outfile_prefix=f'{cfg.work_dir}/results'),
        dict(type='DumpResults', out_file_path=f'{cfg.work_dir}/predictions.pkl'),
    ]
    cfg.resume = True
    cfg.launcher = 'none'
    return cfg


def figures(work_dir: str, ann_file: str) -> dict[str, float]:
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


def main() -> None:
    """Train, test and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data-root', default='data/demo')
    parser.add_argument('--work-dir', default='work_dirs/compare_codecs')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--codecs', nargs='+', default=[*CODECS], choices=[*CODECS])
    parser.add_argument('--epochs', type=int, default=7)
    args = parser.parse_args()
    os.environ['DEMO_ROOT'] = args.data_root
    if not Path(args.data_root, 'annotations').exists():
        generate(args.data_root, num_train=700, num_val=100, progress=True)  # the demo's
    results: dict[str, list[dict]] = {name: [] for name in args.codecs}
    for seed in args.seeds:
        for name in args.codecs:
            cfg = config(name, seed, args)
            file = Path(cfg.work_dir) / 'figures.json'
            if not file.exists():
                ann_file = cfg.test_evaluator[0].ann_file
                runner = build_runner(cfg)
                runner.train()
                runner.test()
                file.write_text(json.dumps(figures(cfg.work_dir, ann_file)))
            results[name].append(json.loads(file.read_text()))
    print(f'{"":<6}' + ''.join(f'{figure:>18}' for figure in FIGURES))
    for name, runs in results.items():
        columns = ([run[figure] for run in runs] for figure in FIGURES)
        texts = (f'{mean(c):.3f} +- {stdev(c) if c[1:] else 0:.3f}' for c in columns)
        print(f'{name:<6}' + ''.join(f'{text:>18}' for text in texts))


if __name__ == '__main__':
    main()
