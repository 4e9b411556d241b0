"""Fuzz for longer, or with other seeds: python -m tests.fuzz [KIND ...] --inputs N --seed S.

Prints the outcomes of each kind and the distinct defects, each with the command that handles one
of its inputs again; status 1 if there is any. An interrupted run prints what it has done.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from .harness import Campaign
from .kinds import DISTURBED, NEED_EXPORTED, SHARES, load, numbers
from .materials import Materials, quiet
from .report import defects, table
from .worker import Bounds, Result

GOOD = ('right', 'line')


def main() -> int:
    """Run, print, and return the status."""
    parser = argparse.ArgumentParser(description='Fuzz the readers and commands of the project')
    parser.add_argument(
        'kinds', nargs='*', help=f'{", ".join(SHARES)} (default: these), {", ".join(DISTURBED)}'
    )
    parser.add_argument('--inputs', type=int, default=10_000, help='in all (%(default)s)')
    parser.add_argument('--seed', type=int, default=17, help='of all inputs (%(default)s)')
    parser.add_argument('--jobs', type=int, default=os.cpu_count(), help='workers at a time')
    parser.add_argument('--wall', type=float, default=300, help='seconds of an input (%(default)s)')
    parser.add_argument(
        '--only', type=int, nargs='+', help='these numbers of one kind, with their tracebacks'
    )
    parser.add_argument('--out', type=Path, help='file for the report (Markdown)')
    args = parser.parse_args()
    start = time.monotonic()
    results: list[Result] = []
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    ending = 'interrupted: '
    with tempfile.TemporaryDirectory(prefix='fuzz-') as folder, suppress(KeyboardInterrupt):
        campaign(Path(folder), args, results)
        ending = ''
    text = f'{ending}seed {args.seed}, {len(results)} inputs, {time.monotonic() - start:.0f} s\n\n'
    text += f'{table(results)}\n\n{defects(results, args.seed)}\n'
    if args.only:
        text += ''.join(f'\nnumber {result.number}\n{result.trace}' for result in results)
    print(text)
    if args.out:
        args.out.write_text(text)
    return int(any(result.outcome not in GOOD for result in results))


def campaign(folder: Path, args: argparse.Namespace, results: list[Result]) -> None:
    """Handle all inputs of the chosen kinds; an interrupted run leaves what it has in `results`."""
    names = args.kinds or [*SHARES]
    with quiet():
        materials = Materials(folder / 'materials', exported=bool(NEED_EXPORTED & {*names}))
        kinds = [load(name, materials) for name in names]
    tasks = []
    for kind in kinds:
        chosen = args.only or numbers(kind, args.inputs, names)
        tasks += [(kind, chosen[first :: args.jobs]) for first in range(args.jobs)]

    def tell(result: Result) -> None:
        results.append(result)
        if len(results) % 250 == 0:
            done = Counter(result.outcome for result in results)
            print(', '.join(f'{k} {v}' for k, v in done.items()), file=sys.stderr)

    bounds = Bounds(wall=args.wall)
    Campaign(folder, args.seed, bounds, args.jobs).run([task for task in tasks if task[1]], tell)


if __name__ == '__main__':
    sys.exit(main())
