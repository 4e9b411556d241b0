"""Hooks of mkdocs: links of the repository's pages in the site.

Pages link as GitHub shows them: to files anywhere in the repository. In the site, the pages of
`PAGES` have addresses of their own, and every other file that a page links to is copied to
`source/` as text. A link to a file that does not exist is a warning, which `--strict` makes an
error.
"""

import logging
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
# Pages outside of docs/: file of the repository -> file of the site.
PAGES = {
    'README.md': 'index.md',
    'examples/README.md': 'examples.md',
    'ARCHITECTURE.md': 'architecture.md',
    'CONTRIBUTING.md': 'contributing.md',
    'CHANGELOG.md': 'changelog.md',
}
WIDE = ('paper.md', 'weights.md')  # their tables take the room of the table of contents
SITE_TO_FILE = {site: file for file, site in PAGES.items()}
CODE = re.compile(r'^ *```.*?^ *```|`[^`\n]*`', re.MULTILINE | re.DOTALL)
LINK = re.compile(r'(\]\()([^)\s#:]+)(#[^)\s]*)?(\))')

logger = logging.getLogger('mkdocs.hooks')


def file_of(src_uri: str) -> str:
    """Return the file of the repository, relative to its root, that a page of the site shows."""
    return SITE_TO_FILE.get(src_uri, f'docs/{src_uri}')


def address(file: str) -> str:
    """Return the path in the site of a file of the repository."""
    if file in PAGES:
        return PAGES[file]
    if (ROOT / file).is_dir():
        return address(f'{file}/README.md')
    if file.startswith('docs/') and not file.endswith(('.py', '.tsv')):
        return file.removeprefix('docs/')
    return f'source/{file}.txt'


def rewrite(markdown: str, src_uri: str) -> tuple[str, set[str]]:
    """Make the links of a page lead to the site.

    Args:
        markdown: text of the page.
        src_uri: its path in the site.

    Returns:
        The text, and the files of the repository that it links to.
    """
    folder = posixpath.dirname(file_of(src_uri))
    linked = set()

    def replace(match: re.Match) -> str:
        start, target, anchor, end = match.groups()
        file = posixpath.normpath(posixpath.join(folder, target))
        if not (ROOT / file).exists():
            logger.warning(f"{file_of(src_uri)} links to '{target}', which does not exist")
            return match[0]
        linked.add(file)
        there = posixpath.relpath(address(file), posixpath.dirname(src_uri) or '.')
        return f'{start}{there}{anchor or ""}{end}'

    parts, last = [], 0
    for code in CODE.finditer(markdown):
        parts += [LINK.sub(replace, markdown[last : code.start()]), code[0]]
        last = code.end()
    parts.append(LINK.sub(replace, markdown[last:]))
    return ''.join(parts), linked


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of `PAGES` and the files that pages link to."""
    for file, site in PAGES.items():
        files.append(File.generated(config, site, content=(ROOT / file).read_text('utf-8')))
    linked = set()
    for file in files.documentation_pages():
        linked |= rewrite(file.content_string, file.src_uri)[1]
    for file in sorted(linked):
        site = address(file)
        if site.startswith('source/') and (ROOT / file).is_file():
            text = (ROOT / file).read_text('utf-8')
            copy = File.generated(config, site, content=text)
            copy.inclusion = InclusionLevel.NOT_IN_NAV
            files.append(copy)
    return files


def on_page_markdown(markdown: str, page: Page, **_) -> str:
    """Rewrite the links of a page."""
    if page.file.src_uri in WIDE:
        page.meta['hide'] = ['toc']
    return rewrite(markdown, page.file.src_uri)[0]
