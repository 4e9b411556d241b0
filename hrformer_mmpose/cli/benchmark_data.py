"""Time loading and evaluation against MMPose's and timm's: `tools/benchmark_data.py`."""

import argparse

from ..benchmark import evaluation, image_loading, loading, memory
from .arguments import positive


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    flags = argparse.ArgumentParser(
        description="Time this package's data path and MMPose's or timm's."
    )
    kinds = flags.add_subparsers(dest='kind', required=True)
    load = kinds.add_parser('loading', help='persons a second that one worker loads')
    load.add_argument('data_root', help="folder in COCO's layout")
    load.add_argument('--boxes', type=positive, default=20, help='boxes an image, in the test')
    load.add_argument('--samples', type=positive, default=600, help='persons a round')
    hold = kinds.add_parser('memory', help='memory of the data set with workers')
    hold.add_argument('ann_file', help='annotations, repeated up to the size')
    hold.add_argument('--persons', type=positive, default=149_813)
    hold.add_argument('--workers', type=positive, default=8)
    evaluate = kinds.add_parser('evaluation', help='from predictions to metrics')
    evaluate.add_argument('ann_file', help='annotations that predictions are simulated from')
    evaluate.add_argument('--detections', type=positive, default=100_000)
    classify = kinds.add_parser('images', help="images a second of classification, beside timm's")
    classify.add_argument('folder', nargs='?', help='JPEGs; by default generated, 500x375')
    classify.add_argument(
        '--config', default='hrformer_small_imagenet_224', help='of a classifier (%(default)s)'
    )
    classify.add_argument('--images', type=positive, default=256, help='a round (%(default)s)')
    for kind in (load, hold, evaluate, classify):
        kind.add_argument('--rounds', type=positive, default=3)
    return flags


def run(args: argparse.Namespace) -> None:
    """Run the benchmark of this kind."""
    if args.kind == 'loading':
        loading.time_loading(args.data_root, args.boxes, args.samples, args.rounds)
    elif args.kind == 'memory':
        memory.compare_memory(args.ann_file, args.persons, args.workers, args.rounds)
    elif args.kind == 'images':
        image_loading.time_images(args.folder, args.config, args.images, args.rounds)
    else:
        evaluation.time_evaluation(args.ann_file, args.detections, args.rounds)
