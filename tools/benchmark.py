"""Time HRFormer against MMPose's classes: python tools/benchmark.py [flags]; --help lists them."""

import argparse
import json
import tempfile

from hrformer_mmpose.cli import terminal


def parser() -> argparse.ArgumentParser:
    """The flags."""
    from hrformer_mmpose.benchmark import networks
    from hrformer_mmpose.cli.arguments import CfgOptions

    made = argparse.ArgumentParser(
        description="This HRFormer, MMPose's and MMPose's HRNets, timed in turns."
    )
    networks.add_arguments(made)
    made.add_argument(
        '--whole', metavar='CONFIG', help='time whole iterations of training and testing instead'
    )
    made.add_argument('--iterations', type=int, default=10, help='of --whole')
    made.add_argument('--cfg-options', nargs='+', action=CfgOptions, default={}, help='of --whole')
    return made


def benchmark(args: argparse.Namespace) -> None:
    """Networks, or with --whole what a config does."""
    from hrformer_mmpose.benchmark import networks, whole
    from hrformer_mmpose.cli import launch

    if args.whole is None:
        networks.benchmark(args)
        return
    with tempfile.TemporaryDirectory() as folder:
        found = whole.benchmark(
            args.whole, args.cfg_options, folder, args.iterations, launch.build_runner
        )
    if args.json:
        with open(args.json, 'w') as file:
            json.dump(found, file, indent=1)


if __name__ == '__main__':
    terminal.run(benchmark, parser())
