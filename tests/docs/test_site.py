"""The site: links of GitHub's view rewritten, built with warnings as errors, and crawled."""

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

pytest.importorskip('mkdocs')
from tests.conftest import ROOT

sys.path.append(str(ROOT / 'docs'))
import site_hooks


@pytest.mark.parametrize(
    ('page', 'link', 'expected'),
    [
        ('index.md', 'docs/own_data.md#fine-tuning', 'own_data.md#fine-tuning'),
        ('index.md', 'docs/network.png', 'network.png'),
        ('own_data.md', 'data.md', 'data.md'),
        ('paper.md', '../configs/metafile.yml', 'source/configs/metafile.yml.txt'),
        ('api.md', '../ARCHITECTURE.md', 'architecture.md'),
        ('weights.md', '../examples', 'examples.md'),
        ('examples.md', '../docs/inference.md', 'inference.md'),
        ('examples.md', 'service.py', 'source/examples/service.py.txt'),
        ('speed.md', 'https://example.org/x.md', 'https://example.org/x.md'),
    ],
)
def test_links_lead_to_the_site(page, link, expected):
    text = f'`[code]({link})` [text]({link})\n```\n[block]({link})\n```\n'
    rewritten, _ = site_hooks.rewrite(text, page)
    assert rewritten == text.replace(f'[text]({link})', f'[text]({expected})')


def test_a_link_to_nothing_is_a_warning(caplog):
    site_hooks.rewrite('[x](nowhere.md)', 'faq.md')
    assert "docs/faq.md links to 'nowhere.md', which does not exist" in caplog.text


class Page(HTMLParser):
    """Addresses and ids of a page."""

    def __init__(self, path: Path):
        super().__init__()
        self.targets, self.ids = set(), set()
        self.feed(path.read_text(encoding='utf-8'))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids.add(attrs.get('id'))
        self.targets |= {attrs[name] for name in ('href', 'src') if attrs.get(name)}


@pytest.mark.slow
def test_the_site_is_whole_and_needs_no_network(tmp_path):
    pytest.importorskip('material')
    pytest.importorskip('mkdocstrings')
    site = tmp_path / 'site'
    subprocess.run(
        [sys.executable, '-m', 'mkdocs', 'build', '--strict', '--quiet', '--site-dir', str(site)],
        cwd=ROOT,
        check=True,
    )
    pages = {path: Page(path) for path in site.rglob('*.html') if path.name != '404.html'}
    start = site / 'index.html'
    reached, waiting, broken = {start}, [start], []
    while waiting:
        page = waiting.pop()
        for target in pages[page].targets:
            if target.startswith(('https://', 'http://', 'data:', 'mailto:')):
                continue
            address, anchor = urldefrag(target)
            path = (page.parent / unquote(address)).resolve() if address else page
            path = path / 'index.html' if path.is_dir() else path
            if not path.is_file() or (
                anchor and path in pages and unquote(anchor) not in pages[path].ids
            ):
                broken.append((page.name, target))
            elif path in pages and path not in reached:
                reached.add(path)
                waiting.append(path)
    assert broken == []
    assert set(pages) - reached == set()
    assert len(pages) > 20
    outside = [
        (page.name, target)
        for page, content in pages.items()
        for target in content.targets
        if target.endswith(('.js', '.css', '.woff2', '.png')) and target.startswith('http')
    ]
    assert outside == []  # no fonts, scripts or pictures of other hosts


def test_make_docs_installs_what_the_extra_names():
    makefile = (ROOT / 'Makefile').read_text()
    command = makefile.split('$$(')[1].split(') pyproject.toml')[0].split(' pyproject.toml)')[0]
    done = subprocess.run(
        ['bash', '-c', command.replace('$$', '$') + ' pyproject.toml'],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    names = [line.split('>')[0] for line in done.stdout.split()]
    assert names == ['mkdocs', 'mkdocs-material', 'mkdocstrings', 'mkdocstrings-python']
