"""Videos in the benchmark: identities and smoothing beside other packages', and the time of it."""

import argparse

from ..benchmark import report
from .arguments import check_out, natural, options_of, positive, write_json


def add_motion_flags(kinds: argparse._SubParsersAction) -> None:
    """Add the command `motion`."""
    flags = kinds.add_parser(
        'motion', help='videos of generated people: identities, smoothing, time beside the network'
    )
    add = flags.add_argument
    add('--films', type=natural, default=16, help='of people; 0 measures the time alone')
    add('--frames', type=positive, default=200, help='of each film')
    add('--update', metavar='FILE', help='replace the section of a Markdown file')
    add('--config', default='hrformer_small_coco_256x192', help='of the network')
    add('--length', type=positive, default=24, help='frames of the timed film')
    add('--rounds', type=natural, default=3, help='0 leaves the time out')
    add('--threads', type=positive, default=2)
    add('--json', help='file for the measurements')


def benchmark_motion(args: argparse.Namespace) -> None:
    """Run `hrformer benchmark motion`."""
    check_out('--json', args.json, ('.json',))
    # SciPy and PyAV are optional; the other benchmarks need neither.
    from ..benchmark import motion, video_speed
    from .predict.video_writer import open_writer

    results = {}
    if args.update:
        report.split_section(args.update, 'motion')
    if args.films:
        results |= motion.run(options_of(motion.MotionOptions, args))
    if args.rounds:
        options = options_of(video_speed.VideoOptions, args)
        results['speed'] = video_speed.run(options, open_writer)['rows']
    write_json(args.json, {**vars(args), **results})
