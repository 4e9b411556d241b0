"""Time or count networks and whole poses: `hrformer benchmark`, and `tools/benchmark.py`."""

import argparse
import tempfile

import torch

from ..benchmark import counts, engine_accuracy, engines, networks, poses, report, roofline, whole
from ..benchmark.counts import CountOptions
from ..benchmark.engine_accuracy import TrainedOptions
from ..benchmark.engine_networks import NETWORKS
from ..benchmark.engines import EngineOptions
from ..benchmark.plan import NetworkOptions
from ..benchmark.poses import PoseOptions
from ..benchmark.roofline import RooflineOptions
from ..benchmark.steps import DTYPES
from ..errors import ConfigError
from .arguments import CfgOptions, check_out, options_of, positive, write_json
from .benchmark_motion import add_motion_flags, benchmark_motion
from .launch import build_runner

ARCHITECTURES = ('base', 'small', 'tiny')
# Defaults that differ: on a GPU all that docs/speed.md asks for.
CPU_DEFAULTS = dict(
    arch=['base', 'small'],
    batch_size=[1, 8],
    train_batch_size=[8],
    precision=['float32'],
    minutes=None,
    markdown=None,
)
CUDA_DEFAULTS = dict(
    arch=[*ARCHITECTURES],
    batch_size=[1, 8, 64],
    train_batch_size=[32],
    precision=['float16', 'bfloat16', 'float32'],
    minutes=8.0,
    markdown='hrformer_speed.md',
)


def parser() -> argparse.ArgumentParser:
    """Return the parser of `hrformer benchmark`."""
    flags = argparse.ArgumentParser(
        description="Time HRFormer against MMPose's classes, in turns on the same data."
    )
    kinds = flags.add_subparsers(dest='kind', required=True)
    _add_network_flags(
        kinds.add_parser('networks', help="backbones beside MMPose's HRFormer and HRNets")
    )
    _add_pose_flags(
        kinds.add_parser('poses', help='crops, or images, to keypoints; exported files too')
    )
    _add_counting(kinds)
    add_motion_flags(kinds)
    return flags


def run(args: argparse.Namespace) -> None:
    """Run `hrformer benchmark`."""
    RUNS[args.kind](args)


def tool_parser() -> argparse.ArgumentParser:
    """Return the parser of `tools/benchmark.py`."""
    flags = argparse.ArgumentParser(
        description="This HRFormer, MMPose's and MMPose's HRNets, timed in turns."
    )
    _add_network_flags(flags)
    flags.add_argument(
        '--whole', metavar='CONFIG', help='time whole iterations of training and testing instead'
    )
    flags.add_argument('--iterations', type=int, default=10, help='with --whole')
    flags.add_argument(
        '--cfg-options', nargs='+', action=CfgOptions, default={}, help='with --whole'
    )
    kinds = flags.add_subparsers(dest='kind', help='count, or measure videos, instead')
    _add_counting(kinds)
    add_motion_flags(kinds)
    return flags


def run_tool(args: argparse.Namespace) -> None:
    """Run `tools/benchmark.py`."""
    if args.whole is None:
        RUNS[args.kind or 'networks'](args)
        return
    check_out('--json', args.json, ('.json',))
    with tempfile.TemporaryDirectory() as folder:
        results = whole.benchmark(
            args.whole, args.cfg_options, folder, args.iterations, build_runner
        )
    write_json(args.json, results)


def _add_network_flags(flags: argparse.ArgumentParser) -> None:
    add = flags.add_argument
    add('--arch', nargs='+', choices=ARCHITECTURES)
    add('--size', nargs='+', default=['256x192'], help='height x width')
    add('--batch-size', nargs='+', type=positive, help='of inference')
    add('--train-batch-size', nargs='*', type=positive)
    add('--precision', nargs='+', choices=DTYPES)
    add('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    add('--threads', type=positive, default=2)
    add('--rounds', type=positive, default=9)
    add('--minutes', type=_parse_minutes, help='time for all cases, fewer rounds if need be')
    add('--with-cp', action='store_true', help='recompute the blocks in training')
    add('--compile', action='store_true', help='also time HRFormer compiled, which takes longer')
    add('--no-hrnet', action='store_true', help='leave out HRNet-W32 and W48')
    add('--json', help='file for the measurements')
    add('--markdown', help='file for the tables (on CUDA by default hrformer_speed.md)')


def _benchmark_networks(args: argparse.Namespace) -> None:
    check_out('--json', args.json, ('.json',))
    defaults = CUDA_DEFAULTS if args.device.startswith('cuda') else CPU_DEFAULTS
    for name, value in defaults.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    check_out('--markdown', args.markdown, ('.md',))
    options = options_of(NetworkOptions, args, size=[_parse_size(text) for text in args.size])
    results = networks.benchmark(options)
    write_json(args.json, {**vars(args), **results})
    if args.markdown:
        print(f'\nwritten to {args.markdown}')


def _add_counting(kinds: argparse._SubParsersAction) -> None:
    flags = kinds.add_parser('counts', help='operators, bytes and multiply-adds of a step')
    flags.add_argument('--arch', nargs='+', choices=ARCHITECTURES, default=['base', 'small'])
    flags.add_argument('--size', nargs='+', default=['256x192'], help='height x width')
    flags.add_argument('--precision', nargs='+', choices=DTYPES, default=['bfloat16'])
    flags.add_argument('--batch-size', type=positive, default=1)
    flags.add_argument('--norm', nargs='+', choices=('BN', 'SyncBN'), default=['BN', 'SyncBN'])
    flags.add_argument('--operators', type=int, default=0, help='list the most frequent ones')
    flags.add_argument('--update', metavar='FILE', help='replace the section of a Markdown file')
    _add_engine_flags(
        kinds.add_parser('engines', help='precisions and engines, beside HRNet-W48 and RTMPose')
    )
    flags = kinds.add_parser('roofline', help='least time on GPUs, from what is counted')
    flags.add_argument('--arch', choices=ARCHITECTURES, default='base')
    flags.add_argument('--size', default='256x192', help='height x width')
    flags.add_argument('--batch-size', type=positive, default=64, help='of inference')
    flags.add_argument('--train-batch-size', type=positive, default=32)
    flags.add_argument('--update', metavar='FILE', help='replace the section of a Markdown file')


def _add_engine_flags(flags: argparse.ArgumentParser) -> None:
    add = flags.add_argument
    add('--networks', nargs='+', choices=NETWORKS, default=[*NETWORKS])
    add('--batch-size', type=positive, default=8)
    add('--device', default='cpu', help='cpu, or a GPU: cuda, cuda:1, ...')
    add('--threads', type=positive, default=2)
    add('--rounds', type=positive, default=5)
    add(
        '--folder',
        default='work_dirs/engines',
        help='exported files, reused if they exist (%(default)s)',
    )
    add('--trained', nargs=2, metavar=('CONFIG', 'CHECKPOINT'), help='measure its accuracy, too')
    add('--calibrate', nargs='+', metavar='IMAGES', help='with --trained, as hrformer export')
    add('--calibrate-boxes', metavar='FILE', help='with --trained: COCO annotations')
    add('--images', nargs='+', help='with --trained: images to compare on')
    add('--annotations', metavar='FILE', help='with --trained: COCO annotations of --images')
    add('--json', help='file for the measurements')
    add('--markdown', help='file for the table')
    add('--update', metavar='FILE', help='replace the section of a Markdown file')


def _benchmark_engines(args: argparse.Namespace) -> None:
    check_out('--json', args.json, ('.json',))
    check_out('--markdown', args.markdown, ('.md',))
    if args.update:
        report.split_section(args.update, engines.SECTIONS[engines.engine_device(args.device).type])
    accuracies = None
    if args.trained:
        if args.device != 'cpu':
            raise ConfigError('--trained: accuracy is measured on the CPU; leave out --device')
        accuracies = engine_accuracy.measure(options_of(TrainedOptions, args))
    results = engines.benchmark(options_of(EngineOptions, args), accuracies)
    write_json(args.json, {**vars(args), **results})


def _count(args: argparse.Namespace) -> None:
    if args.update:
        report.split_section(args.update, args.kind)
    if args.kind == 'roofline':
        roofline.run(options_of(RooflineOptions, args, size=_parse_size(args.size)))
    else:
        sizes = [_parse_size(text) for text in args.size]
        counts.run(options_of(CountOptions, args, size=sizes))


def _parse_minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes < float('inf'):
        raise argparse.ArgumentTypeError(f'{text!r} is not a number of minutes')
    return minutes


def _parse_size(text: str) -> tuple[int, int]:
    try:
        height, width = map(int, text.split('x'))
    except ValueError:
        raise ConfigError(f'--size {text}: HEIGHTxWIDTH, e.g. 256x192') from None
    if height % 32 or width % 32:
        raise ConfigError(f"--size {text}: MMPose's HRFormer takes multiples of 32 only")
    return height, width


def _add_pose_flags(flags: argparse.ArgumentParser) -> None:
    flags.add_argument('config', help='a config or its name')
    flags.add_argument('--checkpoint', help='weights; by default random ones')
    flags.add_argument('--exported', nargs='*', default=[], help='files of `hrformer export`')
    flags.add_argument('--batch-size', nargs='+', type=int, default=[1, 8], help='of crops')
    flags.add_argument('--images', nargs='*', help='also time whole predictions of these images')
    flags.add_argument('--boxes', help='for --images: a COCO detection or annotation file')
    flags.add_argument(
        '--flip',
        action=argparse.BooleanOptionalAction,
        help='average over the mirror image (default: as the config says, like hrformer export)',
    )
    flags.add_argument('--threads', type=int, default=2)
    flags.add_argument('--rounds', type=int, default=7)
    flags.add_argument('--json', help='file for the measurements')


def _benchmark_poses(args: argparse.Namespace) -> None:
    check_out('--json', args.json, ('.json',))
    results = poses.benchmark(options_of(PoseOptions, args))
    write_json(args.json, {**vars(args), **results})


RUNS = dict(
    networks=_benchmark_networks,
    poses=_benchmark_poses,
    counts=_count,
    roofline=_count,
    motion=benchmark_motion,
    engines=_benchmark_engines,
)
