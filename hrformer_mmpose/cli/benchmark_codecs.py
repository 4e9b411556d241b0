"""Time the codecs against MMPose's: `tools/benchmark_codecs.py`."""

import argparse

from ..benchmark import codecs
from .arguments import check_out, options_of, positive, write_json


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    flags = argparse.ArgumentParser(description="Time this package's codecs and MMPose's.")
    flags.add_argument('--batch-size', type=positive, default=64, help='persons (%(default)s)')
    flags.add_argument('--rounds', type=positive, default=9, help='timed (%(default)s)')
    flags.add_argument('--threads', type=positive, default=2, help='of the CPU (%(default)s)')
    flags.add_argument(
        '--device', default='cpu', help="of HRFormer's decoding; MMPose's is always on the CPU"
    )
    flags.add_argument('--forward', action='store_true', help="also time HRFormer-B's forward pass")
    flags.add_argument('--json', help='file for the measurements')
    return flags


def run(args: argparse.Namespace) -> None:
    """Time the codecs."""
    check_out('--json', args.json, ('.json',))
    results = codecs.benchmark(options_of(codecs.CodecOptions, args))
    write_json(args.json, {**vars(args), **results})
