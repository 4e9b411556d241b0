"""Code blocks and links of the README and the pages in docs/."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / 'README.md', ROOT / 'examples/README.md', *(ROOT / 'docs').glob('*.md'))
)
FENCE = re.compile(r'^( *)```(\w*)\n(.*?)^ *```$', re.MULTILINE | re.DOTALL)
INLINE_CODE = re.compile(r'`[^`\n]*`')
LINK = re.compile(r'\]\(([^)\s]+)\)')
HEADING = re.compile(r'^#+ (.*)', re.MULTILINE)
COMMANDS = ('python ', 'hrformer ', 'make ', 'bash ', 'pip ')


@dataclass(frozen=True)
class Block:
    """A fenced block: page, number of its first line, language and text."""

    page: str
    line: int
    language: str
    text: str

    @property
    def is_shell(self) -> bool:
        """Return whether the block holds commands."""
        return self.language == 'bash' or (not self.language and self.text.startswith(COMMANDS))


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding='utf-8')


def blocks(page: str) -> list[Block]:
    text = read(page)
    return [
        Block(page, text[: match.start(3)].count('\n') + 1, match[2], match[3])
        for match in FENCE.finditer(text)
    ]


def commands(block: Block) -> list[str]:
    """Commands of a shell block: continued lines joined, comments and extra spaces removed."""
    lines = block.text.replace('\\\n', ' ').splitlines()
    lines = [re.sub(r'(^|\s+)# .*', '', line) for line in lines]
    return [' '.join(line.split()) for line in lines if line.strip()]


def all_commands() -> list[tuple[str, str]]:
    """Page and command of each command of each page."""
    return [
        (page, command)
        for page in PAGES
        for block in blocks(page)
        if block.is_shell
        for command in commands(block)
    ]


def simple_commands(command: str) -> list[list[str]]:
    """Words of each command of `a && b`, without settings of variables before it."""
    parts = []
    for part in command.split(' && '):
        words = shlex.split(part)
        while words and re.fullmatch(r'[A-Z_]+=.*', words[0]):
            words.pop(0)
        parts.append(words)
    return parts


def links(page: str) -> list[str]:
    """Targets of links outside of code."""
    return LINK.findall(INLINE_CODE.sub('', FENCE.sub('', read(page))))


def anchors(path: Path) -> set[str]:
    """Anchors that GitHub gives to the headings of a file."""
    titles = HEADING.findall(FENCE.sub('', path.read_text(encoding='utf-8')))
    titles = [re.sub(r'\[([^]]*)\]\([^)]*\)', r'\1', title).strip() for title in titles]
    return {re.sub(r'[^\w\- ]', '', title.lower()).replace(' ', '-') for title in titles}
