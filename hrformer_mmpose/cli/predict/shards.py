"""How a prediction is divided among runs: its settings, its parts, what is done of them."""

import argparse
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from ...errors import UserError
from ...inference.digest import add_file
from ...inference.pairing import WHOLE_IMAGE
from .journal import ADVICE, Content, Journal, read

MOST_PARTS = 10_000  # each run looks for the journals of all


def settings_of(args: argparse.Namespace) -> dict:
    """Return the settings that predictions depend on, by name of flag."""
    return dict(
        model=fingerprint(args.model),
        checkpoint=args.checkpoint and fingerprint(args.checkpoint),
        boxes=args.boxes if args.boxes in ('hog', WHOLE_IMAGE) else fingerprint(args.boxes),
        annotations=args.annotations and fingerprint(args.annotations),
        box_threshold=args.box_threshold,
        precision=args.precision,
        flip=args.flip,
        backend=args.backend,
        pictures=args.pictures,
        threshold=args.threshold if args.pictures else None,
    )


def fingerprint(name: str) -> str:
    """A file's name with what tells another file of that name from it.

    Networks of one kind have equal sizes, so that it takes the content.
    """
    path = Path(name.split(':', 1)[-1] if name.startswith(('onnx:', 'torchvision:')) else name)
    if not path.is_file():
        return name
    digest = hashlib.sha256()
    # OpenVINO has the weights in a file beside the .xml.
    weights = [path.with_suffix('.bin')] if path.suffix.lower() == '.xml' else []
    for part in [path, *filter(Path.is_file, weights)]:
        add_file(digest, part)
    return f'{name} (sha256 {digest.hexdigest()[:12]})'


def stamp(name: str) -> list[int] | None:
    """Size in bytes and time of the last change in ns, by which a replaced file is recognised."""
    try:
        status = os.stat(name)
    except OSError:  # gone since it was found
        return None
    return [status.st_size, status.st_mtime_ns]


def part_of(text: str | None) -> tuple[int, int]:
    """Number of this part and of all parts, from --shard or from torchrun's environment."""
    given = f'--shard {text}'
    if text is None:
        if 'WORLD_SIZE' not in os.environ:
            return 0, 1
        text = f'{os.environ.get("RANK", 0)}/{os.environ["WORLD_SIZE"]}'
        given = f'RANK/WORLD_SIZE of the environment are {text}'
    first, _, count = text.partition('/')
    digits = len(str(MOST_PARTS))
    if first.isdecimal() and count.isdecimal():
        if len(count) > digits or int(count) > MOST_PARTS:
            raise UserError(f'{given[:40]}: there can be {MOST_PARTS:,} parts at most')
        if len(first) <= digits and int(first) < int(count):
            return int(first), int(count)
    raise UserError(f'{given}: give I/N with I from 0 to N-1, e.g. 0/4')


def journal_name(shard: int, shards: int) -> str:
    """The file of a part's journal."""
    return 'poses.jsonl' if shards == 1 else f'poses-{shard}-of-{shards}.jsonl'


def others(out: Path, shard: int, shards: int, settings: dict) -> list[Content]:
    """The journals of the other shards.

    Raises:
        UserError: one was made with other settings.
    """
    found = []
    for number in range(shards):
        path = out / journal_name(number, shards)
        if number == shard or not path.is_file():
            continue
        content = read(path)
        if content.entries and (difference := content.difference(settings)):
            raise UserError(f"'{path}' holds predictions made with {difference}: {ADVICE}")
        found.append(content)
    return found


def entry_of(
    name: str, books: Sequence[Content | Journal], stamp: list[int] | None = None
) -> dict | None:
    """Return the journals' entry of a file, preferring one without a problem.

    Entries of a file that has changed since do not count, see `Content.current`.
    """
    found = [book.current(name, stamp) for book in books]
    found = [entry for entry in found if entry is not None]
    return next((entry for entry in found if not entry.get('failed')), found[0] if found else None)


def taken_by(key: str, books: Sequence[Content | Journal]) -> dict[str, str]:
    """The results, under `key` of their entries, that inputs already have."""
    entries = [item for book in books for item in book.entries.items()]
    return {name: entry[key].partition('/')[2] for name, entry in entries if key in entry}
