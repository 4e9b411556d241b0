"""Summary of a prediction on the terminal."""

from pathlib import Path

from .arguments import Options

PROBLEMS_SHOWN = 10


def report(entries: list[dict], written: dict[str, Path], options: Options) -> int:
    """Print a summary and the problems.

    Args:
        entries: entries of this shard's files.
        written: files by description, see `merge`.
        options: options of the command.

    Returns:
        The exit status: 1 if there are problems.
    """
    problems = [line for entry in entries for line in entry.get('problems', ())]
    videos = [entry for entry in entries if entry.get('kind') == 'video']
    stills = [entry for entry in entries if entry.get('kind') != 'video']
    persons = sum(len(entry['poses']) for entry in stills)
    part = f'part {options.shard}/{options.num_shards}: ' if options.num_shards > 1 else ''
    if stills:
        print(f'{part}{_count(len(stills), "image")}, {_count(persons, "person")}')
    for entry in videos:
        what = f'{_count(entry["frames"], "frame")}, {_count(entry["persons"], "person")}'
        where = ''
        if 'lines' in entry:
            lines = options.out / entry['lines']
            drawn = lines.with_suffix('.mp4')
            where = f': {drawn}, {lines.name}' if drawn.is_file() else f': {lines}'
        print(f"{part}'{entry['name']}', {what}{where}")
    if any('picture' in entry for entry in stills):
        print(f'pictures: {options.out / "pictures"}')
    for what, path in written.items():
        print(f'{what}: {path}')
    if problems:
        _print_problems(problems, entries, options.out)
    return int(bool(problems))


def _print_problems(problems: list[str], entries: list[dict], out: Path) -> None:
    for line in problems[:PROBLEMS_SHOWN]:
        print(f'problem: {line}')
    if (more := len(problems) - PROBLEMS_SHOWN) > 0:
        print(f"... and {more} more, in the .jsonl files of '{out}'")
    failed = sum(bool(entry.get('failed')) for entry in entries)
    unused = f'{failed} of {_count(len(entries), "file")} could not be used'
    print(f'{_count(len(problems), "problem")}; {unused}')


def _count(number: int, what: str) -> str:
    return f'{number} {what}{"" if number == 1 else "s"}'
