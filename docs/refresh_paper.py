"""Rewrite the computed cells of docs/paper.md: config, parameters, GFLOPs, checkpoints, parity.

python docs/refresh_paper.py [--recount]

Counts are stored in docs/paper_counts.tsv. Configs that it lacks are counted, with --recount all of
them (a few minutes). A published figure that the page lacks is taken from `tools/model_table.py`.
"""

import argparse
import re
from pathlib import Path
from typing import NamedTuple

import hrformer_mmpose  # noqa: F401  (makes MMPose importable)
from hrformer_mmpose import zoo
from hrformer_mmpose.cli.model_table import PUBLISHED, Published, measure

ROOT = Path(__file__).resolve().parents[1]
PAGE, COUNTS = ROOT / 'docs/paper.md', ROOT / 'docs/paper_counts.tsv'
ROW = re.compile(r'\|' + r' ([^|\n]*) \|' * 7)
CONFIG = re.compile(r'\[?([a-z0-9_]+_[a-z0-9_]+)')
NOT_FOUND = 'not found'
Counts = dict[str, tuple[float, ...]]  # by config: parameters M, GFLOPs, GFLOPs as published


class Network(NamedTuple):
    """Checkpoints that load into some configs, and what their outputs are compared with.

    Attributes:
        pattern: regular expression for names of configs; the first match counts.
        loads: files that load.
        load_tests: pattern of the test files behind `loads`.
        parity: what outputs are compared with.
        parity_tests: pattern of the test files behind `parity`.
    """

    pattern: str
    loads: str
    load_tests: str
    parity: str
    parity_tests: str


_THEIRS, _NONE, _OPTION = "the authors'", 'none published', 'effect of the option'
_OFFICIAL = 'tests/backbones/test_parity_official.py'
_COMPARED = 'tests/backbones/test_comparators.py'
_SEGMENTATION = r'hrformer_\w+_(cityscapes|pascal_context|coco_stuff)_'
_MMPOSES, _SWINS = "MMPose's", "backbones of MMPose and Swin's authors"
_DEITS, _ENCODER = "backbones of DeiT's authors and timm", "PyTorch's encoder layer"
_POSE = 'tests/checkpoint/test_matching.py'
_TOKENS = 'tests/heads/test_pose_transformers.py'
NETWORKS = (
    Network(r'hrformer_[a-z]+_imagenet_', _THEIRS, _OFFICIAL, _THEIRS, _OFFICIAL),
    Network(_SEGMENTATION, _THEIRS, _OFFICIAL, _THEIRS, _OFFICIAL),
    Network(
        r'hrformer_[a-z]+_coco_\d+x\d+$',
        f'{_MMPOSES}, {_THEIRS}',
        _POSE,
        f'{_MMPOSES} class, {_THEIRS}',
        'tests/backbones/test_parity_*.py',
    ),
    Network(r'hrformer_', _NONE, '', _OPTION, 'tests/backbones/test_ablations.py'),
    Network(r'hrnet_|pvt', _MMPOSES, _COMPARED, f'{_MMPOSES} class', _COMPARED),
    Network(r'intrawin_|swin_\w+_dwconv', _NONE, '', _OPTION, _COMPARED),
    Network(r'swin_', _SWINS, _COMPARED, f'{_MMPOSES} class', _COMPARED),
    Network(r'vit_', _DEITS, _COMPARED, _ENCODER, _COMPARED),
    Network(r'tokenpose_|transpose_', _THEIRS, _TOKENS, _THEIRS, _TOKENS),
    Network(
        r'prtr_',
        _THEIRS,
        'tests/checkpoint/test_prtr.py',
        _THEIRS,
        'tests/heads/test_prtr_parity.py',
    ),
)


def refresh(page: str, counts: Counts) -> str:
    """Return the page with its computed cells written anew.

    Raises:
        KeyError: an existing config has no counts.
    """
    return ROW.sub(lambda match: f'| {" | ".join(_cells(match.groups(), counts))} |', page)


def referenced(page: str) -> list[str]:
    """Return the existing configs that the rows of the page name, each once."""
    names = (_config(match.groups()) for match in ROW.finditer(page))
    return [name for name in dict.fromkeys(names) if name in zoo.names()]


def read_counts() -> Counts:
    """Read the stored counts."""
    if not COUNTS.exists():
        return {}
    lines = (line.split('\t') for line in COUNTS.read_text().splitlines()[1:])
    return {name: tuple(map(float, values)) for name, *values in lines}


def write_counts(counts: Counts) -> None:
    """Store the counts, sorted by config."""
    lines = ['config\tparams\tgflops\tgflops_as_published']
    for name, values in sorted(counts.items()):
        # To one parameter: a cell rounds again.
        lines.append('\t'.join((name, *(f'{value:.6f}'.rstrip('0') for value in values))))
    COUNTS.write_text('\n'.join(lines) + '\n')


def count(name: str) -> tuple[float, ...]:
    """Count millions of parameters and GFLOPs of a config."""
    row = measure(name, zoo.read_config(name))
    return row.params, row.gflops, row.gflops_as_published


def _config(cells: tuple[str, ...]) -> str | None:
    match = CONFIG.match(cells[1])
    return match and match[1]


def _cells(cells: tuple[str, ...], counts: Counts) -> tuple[str, ...]:
    name = _config(cells)
    if name is None:  # the head of a table, or a system without a config
        return cells
    system, _, params, gflops, score, *_ = cells
    published = PUBLISHED.get(name, Published())
    params_digits, gflops_digits = published.digits
    params = _published(params, published.params, params_digits)
    gflops = _published(gflops, published.gflops, gflops_digits)
    if score == NOT_FOUND and published.score:
        score = f'{published.score.split()[-1]} ({published.source})'
    if name not in zoo.names():
        return system, f'{name}: missing', f'- ({params})', f'- ({gflops})', score, '-', '-'
    total, decimal, as_published = counts[name]
    link = f'[{name}](../{Path(zoo.find(name)).relative_to(ROOT).as_posix()})'
    return (
        system,
        link,
        f'{total:.3f} ({params})',
        f'{decimal if published.decimal else as_published:.2f} ({gflops})',
        score,
        *_evidence(name),
    )


def _published(cell: str, figure: float | None, digits: int) -> str:
    """Return the published figure of a cell "counted (published)"."""
    return re.sub(r'.*\((.*)\)', r'\1', cell) if figure is None else f'{figure:.{digits}f}'


def _evidence(name: str) -> tuple[str, str]:
    """Return the cells of checkpoints and parity; without a test there is no claim."""
    network = next(network for network in NETWORKS if re.match(network.pattern, name))
    return (
        _tested(network.loads, network.load_tests),
        _tested(network.parity, network.parity_tests),
    )


def _tested(claim: str, pattern: str) -> str:
    if not pattern:
        return claim
    files = sorted(ROOT.glob(pattern))
    links = (f'[test](../{file.relative_to(ROOT).as_posix()})' for file in files)
    return f'{claim}: {", ".join(links)}' if files else 'no test'


def main() -> None:
    """Count what is missing and rewrite the page."""
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    flags.add_argument('--recount', action='store_true', help='count all configs again')
    stored = {} if flags.parse_args().recount else read_counts()
    page = PAGE.read_text()
    counts = {name: stored.get(name) or count(name) for name in referenced(page)}
    write_counts(counts)
    PAGE.write_text(refresh(page, read_counts()))
    print(f'{PAGE}: {len(counts)} configs, {len(counts.keys() - stored.keys())} counted')


if __name__ == '__main__':
    main()
