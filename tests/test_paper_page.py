"""docs/paper.md is what docs/refresh_paper.py writes, and states published figures only."""

import re
import sys

import pytest

pytest.importorskip('mmpose')
from tests.conftest import ROOT

sys.path.append(str(ROOT / 'docs'))
import refresh_paper

PAGE = refresh_paper.PAGE.read_text()
COMMAND = 'run python docs/refresh_paper.py'


def published(system: str, title: str) -> str:
    """Return the score of a row of a table."""
    rows = PAGE.split(f'## {title}')[1].split('\n## ')[0].splitlines()
    (row,) = [row for row in rows if row.startswith(f'| {system} |')]
    return row.split(' | ')[4]


def test_the_page_is_up_to_date():
    counts = refresh_paper.read_counts()
    assert counts.keys() == set(refresh_paper.referenced(PAGE)), COMMAND
    assert refresh_paper.refresh(PAGE, counts) == PAGE, COMMAND


def test_a_changed_count_and_a_missing_config_change_the_page():
    counts = refresh_paper.read_counts()
    name = 'hrnet_tiny_coco_256x192'
    changed = refresh_paper.refresh(PAGE, {**counts, name: (9.0, 8.0, 7.0)})
    assert f'[{name}](../configs/comparisons/{name}.py) | 9.000 (not found) | 7.00' in changed
    renamed = refresh_paper.refresh(PAGE.replace(name, 'hrnet_none'), counts)
    assert '| hrnet_none: missing | - (not found) | - (not found) | see above | - | - |' in renamed


def test_every_link_leads_to_a_file():
    links = re.findall(r'\]\((?!http)([^)#]+)', PAGE)
    assert len(links) > 50
    assert [link for link in links if not (ROOT / 'docs' / link).exists()] == []


def test_all_tables_of_the_paper_are_there():
    titles = re.findall(r'^## Tables? ([\d and]+)', PAGE, re.MULTILINE)
    assert [int(n) for title in titles for n in re.findall(r'\d+', title)] == [*range(1, 12)]


def test_scores_are_the_published_ones(shared):
    """Compare the rows that the collection of published figures has."""
    facts = (shared / 'paper.md').read_text()
    val = [
        line.split(' | ') for line in facts.splitlines() if re.match(r'\| HRFormer-[SB] \|', line)
    ]
    val = [cells for cells in val if re.fullmatch(r'\d+x\d+', cells[1])]
    for system, size, _, _, ap, _, _, _, _, ar, _ in val:
        assert published(f'{system[2:]} {size}', 'Table 3') == f'{ap} / {ar}'
    test_dev = re.findall(r'([SB]) (\d\d\.\d)(?:/\d\d\.\d){4}/(\d\d\.\d)', facts)
    for letter, ap, ar in test_dev:
        assert published(f'HRFormer-{letter} 384x288', 'Table 4') == f'{ap} / {ar}'
    imagenet = re.findall(r'([TSB]) [\d.]+ M \([^)]*\) / ([\d.]+) / ([\d.]+) / [\d.]+', facts)
    for letter, top1, top5 in imagenet:
        assert published(f'HRFormer-{letter}', 'Table 6') == f'{top1} / {top5}'
    others = re.findall(
        r'([A-Z][\w/-]+(?: \(HRNet-W32\))?) (256|384) [\d.]+/[\d.]+/(\d\d\.\d)/(\d\d\.\d)', facts
    )
    for system, size, ap, ar in others:
        whole = {'256': '256x192', '384': '384x288'}[size]
        assert published(f'{system} {whole}', 'Table 3') == f'{ap} / {ar}'
    assert [len(rows) for rows in (val, test_dev, imagenet, others)] == [4, 2, 3, 6]


@pytest.mark.slow
@pytest.mark.parametrize('name', refresh_paper.referenced(PAGE))
def test_the_stored_counts_are_those_of_the_configs(name, no_init):
    assert refresh_paper.count(name) == pytest.approx(refresh_paper.read_counts()[name], abs=6e-5)
