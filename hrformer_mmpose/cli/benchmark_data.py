"""Time loading and evaluation against MMPose's: `tools/benchmark_data.py`."""

import argparse

from ..benchmark import data
from .arguments import positive


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    flags = argparse.ArgumentParser(description="Time this package's data path and MMPose's.")
    kinds = flags.add_subparsers(dest='kind', required=True)
    loading = kinds.add_parser('loading', help='persons a second that one worker loads')
    loading.add_argument('data_root', help="folder in COCO's layout")
    loading.add_argument('--boxes', type=positive, default=20, help='boxes an image, in the test')
    loading.add_argument('--samples', type=positive, default=600, help='persons a round')
    memory = kinds.add_parser('memory', help='memory of the data set with workers')
    memory.add_argument('ann_file', help='annotations, repeated up to the size')
    memory.add_argument('--persons', type=positive, default=149_813)
    memory.add_argument('--workers', type=positive, default=8)
    evaluation = kinds.add_parser('evaluation', help='from predictions to metrics')
    evaluation.add_argument('ann_file', help='annotations that predictions are simulated from')
    evaluation.add_argument('--detections', type=positive, default=100_000)
    for kind in (loading, memory, evaluation):
        kind.add_argument('--rounds', type=positive, default=3)
    return flags


def run(args: argparse.Namespace) -> None:
    """Run the benchmark of this kind."""
    if args.kind == 'loading':
        data.time_loading(args.data_root, args.boxes, args.samples, args.rounds)
    elif args.kind == 'memory':
        data.compare_memory(args.ann_file, args.persons, args.workers, args.rounds)
    else:
        data.time_evaluation(args.ann_file, args.detections, args.rounds)
