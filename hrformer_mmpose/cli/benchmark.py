"""Time networks or whole poses: `hrformer benchmark`, and `tools/benchmark.py` for networks."""

import argparse
import tempfile

import torch

from ..benchmark import networks, poses, whole
from ..benchmark.networks import NetworkOptions
from ..benchmark.poses import PoseOptions
from ..errors import ConfigError
from .arguments import CfgOptions, options_of, write_json
from .launch import build_runner


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
    return flags


def run(args: argparse.Namespace) -> None:
    """Run `hrformer benchmark`."""
    (_benchmark_networks if args.kind == 'networks' else _benchmark_poses)(args)


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
    return flags


def run_tool(args: argparse.Namespace) -> None:
    """Run `tools/benchmark.py`."""
    if args.whole is None:
        _benchmark_networks(args)
        return
    with tempfile.TemporaryDirectory() as folder:
        results = whole.benchmark(
            args.whole, args.cfg_options, folder, args.iterations, build_runner
        )
    write_json(args.json, results)


def _add_network_flags(flags: argparse.ArgumentParser) -> None:
    flags.add_argument('--arch', nargs='+', default=['base', 'small'])
    flags.add_argument('--size', nargs='+', default=['256x192'], help='height x width')
    flags.add_argument('--batch-size', nargs='+', type=int, default=[1, 8], help='of inference')
    flags.add_argument('--train-batch-size', nargs='*', type=int, default=[8])
    flags.add_argument('--precision', nargs='+', choices=networks.DTYPES, default=['float32'])
    flags.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    flags.add_argument('--threads', type=int, default=2)
    flags.add_argument('--rounds', type=int, default=9)
    flags.add_argument('--with-cp', action='store_true', help='recompute the blocks in training')
    flags.add_argument('--compile', action='store_true', help='also time HRFormer compiled')
    flags.add_argument('--no-hrnet', action='store_true', help='leave out HRNet-W32 and W48')
    flags.add_argument('--json', help='file for the measurements')


def _benchmark_networks(args: argparse.Namespace) -> None:
    options = options_of(NetworkOptions, args, size=[_parse_size(text) for text in args.size])
    results = networks.benchmark(options)
    write_json(args.json, {**vars(args), **results})


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
    results = poses.benchmark(options_of(PoseOptions, args))
    write_json(args.json, {**vars(args), **results})
