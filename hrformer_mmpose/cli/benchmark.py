"""`hrformer benchmark`: networks, or whole poses."""

import argparse

from ..benchmark import networks, poses


def parser() -> argparse.ArgumentParser:
    """The flags."""
    made = argparse.ArgumentParser(
        description="Time HRFormer against MMPose's classes, in turns on the same data."
    )
    kinds = made.add_subparsers(dest='kind', required=True)
    one = kinds.add_parser('networks', help="backbones beside MMPose's HRFormer and HRNets")
    networks.add_arguments(one)
    one.set_defaults(benchmark=networks.benchmark)
    other = kinds.add_parser('poses', help='crops, or images, to keypoints; exported files too')
    poses.add_arguments(other)
    other.set_defaults(benchmark=poses.benchmark)
    return made


def run(args: argparse.Namespace) -> None:
    """Time and print."""
    function = args.benchmark
    del args.benchmark  # what is written as JSON is the flags
    function(args)
