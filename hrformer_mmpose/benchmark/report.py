"""Measurements as a Markdown file that a user can send in."""

import platform
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from statistics import median

import torch

from .. import io
from ..errors import ConfigError
from ..version import __version__
from . import baselines

MiB = 2**20
PACKAGES = ('triton', 'mmpose', 'mmengine', 'mmcv', 'mmcv-lite')
COLUMNS = (
    'step',
    'network',
    'images/s',
    '(slowest to fastest)',
    'times MMPose',
    '(lowest to highest)',
    'time / HRNet-W48',
    'peak MiB',
)


def environment(device: torch.device, threads: int) -> dict[str, str]:
    """Return what a measurement depends on: device, versions, settings of PyTorch."""
    lines = dict(device=f'{device.type}, {threads} threads')
    if device.type == 'cuda':
        card = torch.cuda.get_device_properties(device)
        lines['device'] = f'{card.name}, {card.total_memory / 2**30:.0f} GiB'
        lines['compute capability'] = f'{card.major}.{card.minor}'
        lines['CUDA, cuDNN'] = f'{torch.version.cuda}, {torch.backends.cudnn.version()}'
        tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        lines['TF32 in float32'] = f'matrix products {tf32[0]}, convolutions {tf32[1]}'
    versions = {'hrformer_mmpose': __version__, 'torch': torch.__version__}
    versions |= {name: version for name in PACKAGES if (version := _version(name))}
    lines['versions'] = ', '.join(f'{name} {version}' for name, version in versions.items())
    return lines | dict(system=f'{platform.system()}, Python {platform.python_version()}')


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def write(file: str, text: str) -> None:
    """Write a table into a file of its own; create its folder."""
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    with io.replacing(file) as partial:
        Path(partial).write_text(text)


def markdown(results: dict) -> str:
    """Return the results of `networks.benchmark` as Markdown."""
    lines = ["# HRFormer beside MMPose's classes", '']
    lines += [f'- {key}: {value}' for key, value in results['environment'].items()]
    lines += [
        f'- large matrix product, {name}: {rate / 1e12:.2f} T multiply-adds/s'
        for name, rate in results['matmul_rates'].items()
    ]
    lines += [
        f'- relative L2 difference from MMPose in float32 on the CPU, HRFormer {row["arch"]}, '
        f'{row["network"]}, {row["precision"]}: {row["difference"]}'
        for row in results['differences']
    ]
    for title, rows in _groups(results['rows']).items():
        lines += ['', f'## {title}', '', *table(COLUMNS, _cells(rows))]
    return '\n'.join([*lines, ''])


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [columns, ['---'] * len(columns), *rows]
    return [f'| {" | ".join(cells)} |' for cells in lines]


def _groups(rows: list[dict]) -> dict[str, list[dict]]:
    groups: dict[str, list[dict]] = {}
    for row in rows:
        height, width = row['size']
        title = f'HRFormer {row["arch"]}, {height}x{width}, {row["precision"]}'
        groups.setdefault(title, []).append(row)
    return groups


def _cells(rows: list[dict]) -> list[list[str]]:
    hrnet = {
        _step(row): row['median_s']
        for row in rows
        if row['network'] == baselines.HRNET_W48 and 'median_s' in row
    }
    return [_row_cells(row, hrnet.get(_step(row))) for row in rows]


def _step(row: dict) -> str:
    return f'{"training step" if row["training"] else "inference"}, batch {row["batch"]}'


def _row_cells(row: dict, hrnet_s: float | None) -> list[str]:
    names = [_step(row), row['network']]
    if 'failure' in row:
        return [*names, row['failure'].replace('|', '/'), *[''] * (len(COLUMNS) - 3)]
    batch, seconds, ratios, peak = (
        row[key] for key in ('batch', 'seconds', 'ratios', 'cuda_peak_bytes')
    )
    return [
        *names,
        f'{batch / row["median_s"]:.1f}',
        f'({batch / max(seconds):.1f} to {batch / min(seconds):.1f})',
        f'{median(ratios):.2f}' if ratios else '',
        f'({ratios[0]:.2f} to {ratios[-1]:.2f})' if ratios else '',
        f'{row["median_s"] / hrnet_s:.2f}' if hrnet_s else '',
        f'{peak / MiB:.0f}' if peak is not None else '',
    ]


def update(file: str | None, section: str, lines: Sequence[str]) -> None:
    """Replace a section of a Markdown file; `split_section` describes sections.

    Args:
        file: the file, or None.
        section: name of the section.
        lines: its new lines.
    """
    if file is not None:
        before, after = split_section(file, section)
        with io.replacing(file) as partial:
            Path(partial).write_text('\n'.join([before, '', *lines, after]))


def split_section(file: str, section: str) -> tuple[str, str]:
    """Return a file's text up to the line `<!-- NAME -->`, and from `<!-- end of NAME -->` on.

    Raises:
        ConfigError: the file cannot be read or has no such lines.
    """
    begin, end = f'<!-- {section} -->', f'<!-- end of {section} -->'
    try:
        text = Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--update '{file}': {getattr(error, 'strerror', 'no text')}") from None
    before, has_begin, rest = text.partition(begin)
    _, has_end, after = rest.partition(end)
    if not (has_begin and has_end):
        raise ConfigError(f"--update '{file}': it has no lines {begin} and {end}")
    return before + begin, end + after
