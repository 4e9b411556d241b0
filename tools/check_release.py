"""Compare a tag with the version of the package, its citation and its changelog.

    python tools/check_release.py v0.1.0

Prints the changelog's section of the version. `hrformer_mmpose/version.py` is the one place of the
version; this check needs only Python.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def problems(tag: str, root: Path = ROOT) -> list[str]:
    """Return what keeps a tag from being released."""
    version = _find(root / 'hrformer_mmpose/version.py', r"^__version__ = '(.+)'$")
    found = []
    if tag != f'v{version}':
        found.append(f'tag {tag} is not v{version}, the version in hrformer_mmpose/version.py')
    if (cited := _find(root / 'CITATION.cff', r'^version: (.+)$')) != version:
        found.append(f'CITATION.cff has version {cited}, not {version}')
    heading = rf'^## {re.escape(version)} \((.+)\)$'
    date = _find(root / 'CHANGELOG.md', heading)
    if not re.fullmatch(r'\d{4}-\d\d-\d\d', date):
        found.append(f"CHANGELOG.md needs a heading '## {version} (YYYY-MM-DD)', has '{date}'")
    return found


def notes(root: Path = ROOT) -> str:
    """Return the newest section of the changelog."""
    text = (root / 'CHANGELOG.md').read_text(encoding='utf-8')
    return re.split(r'^## .*\n', text, flags=re.MULTILINE)[1].strip() + '\n'


def _find(path: Path, pattern: str) -> str:
    match = re.search(pattern, path.read_text(encoding='utf-8'), re.MULTILINE)
    return match[1] if match else 'none'


if __name__ == '__main__':
    if len(sys.argv) != 2:
        sys.exit('usage: python tools/check_release.py TAG')
    if lines := problems(sys.argv[1]):
        sys.exit('\n'.join(f'error: {line}' for line in lines))
    print(notes(), end='')
