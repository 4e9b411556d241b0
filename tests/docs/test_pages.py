"""README and pages: length, links and the site's list of pages. `test_site.py` builds the site."""

import re

import pytest

from tests.conftest import ROOT

from . import pages

SITE = (ROOT / 'mkdocs.yml').read_text(encoding='utf-8')


def test_the_readme_is_short():
    readme = pages.read('README.md')
    assert len(readme.splitlines()) < 120
    assert len(re.findall(r'^\|[-|]+\|$', readme, re.MULTILINE)) == 1  # one table
    assert readme.count('![') == 1  # one picture


@pytest.mark.parametrize('page', [*pages.PAGES, 'ARCHITECTURE.md', 'CONTRIBUTING.md'])
def test_every_link_leads_somewhere(page):
    broken = []
    for link in pages.links(page):
        if link.startswith(('http:', 'https:')):
            continue
        target, _, anchor = link.partition('#')
        path = (ROOT / page).parent / target if target else ROOT / page
        if not path.exists() or (anchor and anchor not in pages.anchors(path)):
            broken.append(link)
    assert broken == []


def test_the_site_and_the_readme_lead_to_every_page():
    listed = re.findall(r': (\w+\.md)$', SITE, re.MULTILINE)
    written = {page.removeprefix('docs/') for page in pages.PAGES if page.startswith('docs/')}
    assert written <= set(listed)
    linked = {link.partition('#')[0].removeprefix('docs/') for link in pages.links('README.md')}
    assert written <= linked


def test_a_broken_link_is_found(tmp_path, monkeypatch):
    (tmp_path / 'a.md').write_text('# One, two?\n[a](b.md), [b](#one-two), [c](#three)\n')
    monkeypatch.setattr(pages, 'ROOT', tmp_path)
    assert pages.links('a.md') == ['b.md', '#one-two', '#three']
    assert pages.anchors(tmp_path / 'a.md') == {'one-two'}
