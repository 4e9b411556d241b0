"""Tables of outcomes and lists of distinct defects, in Markdown."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from .worker import OUTCOMES, Result


def table(results: Sequence[Result]) -> str:
    """Inputs of each kind by outcome."""
    lines = [
        '| kind | inputs | ' + ' | '.join(OUTCOMES) + ' | slowest, s | most memory, MB |',
        '|---' * (len(OUTCOMES) + 4) + '|',
    ]
    by_kind = defaultdict(list)
    for result in results:
        by_kind[result.kind].append(result)
    for kind, own in [*sorted(by_kind.items()), ('all', results)]:
        counts = Counter(result.outcome for result in own)
        row = [kind, len(own), *(counts[outcome] for outcome in OUTCOMES)]
        row += [f'{max((r.seconds for r in own), default=0):.1f}']
        row += [f'{max((r.memory for r in own), default=0) / 1e6:.0f}']
        lines.append('| ' + ' | '.join(map(str, row)) + ' |')
    return '\n'.join(lines)


def defects(results: Sequence[Result], seed: int) -> str:
    """Distinct defects, most frequent first, each with the command that shows an example."""
    groups: dict[tuple, list[Result]] = defaultdict(list)
    for result in results:
        if result.outcome not in ('right', 'line'):
            where = result.where
            if result.outcome == 'wrong':  # raised by the judge: its message tells them apart
                where = re.sub(r"'[^']*/|\d+", '', result.message)[:60]
            groups[(result.kind, result.outcome, result.error, where)].append(result)
    lines = []
    for (kind, outcome, error, where), own in sorted(
        groups.items(), key=lambda item: -len(item[1])
    ):
        first = min(own, key=lambda result: result.number)
        lines.append(
            f'- {len(own)} x **{kind}: {outcome}** {error} in {where or "?"}: '
            f'`{first.message[:140]}` ({first.name[:80]}): '
            f'`python -m tests.fuzz {kind} --seed {seed} --only {first.number}`'
        )
    return '\n'.join(lines) or 'no defects'
