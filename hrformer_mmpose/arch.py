"""Architectures of HRFormer: by name, as a flat dict, or as MMPose's `extra`.

All three are converted to a tuple of four `Stage`s, the arguments of the network.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import ConfigError, UnknownArgumentError

# Paper, table 1. num_modules and num_blocks: one value a stage. channels, num_heads, mlp_ratios and
# window_sizes: one value a branch. Omitted keys have the defaults below.
ARCHS: dict[str, dict[str, Any]] = {
    'tiny': dict(num_modules=(1, 1, 3, 2), channels=(18, 36, 72, 144), num_heads=(1, 2, 4, 8)),
    'small': dict(num_modules=(1, 1, 4, 2), channels=(32, 64, 128, 256), num_heads=(1, 2, 4, 8)),
    'base': dict(num_modules=(1, 1, 4, 2), channels=(78, 156, 312, 624), num_heads=(2, 4, 8, 16)),
}
DEFAULTS: dict[str, Any] = dict(
    num_modules=(1, 1, 4, 2),
    num_blocks=(2, 2, 2, 2),
    mlp_ratios=(4, 4, 4, 4),
    window_sizes=(7, 7, 7, 7),
    stem_channels=64,
)
REQUIRED = ('channels', 'num_heads')


@dataclass(frozen=True)
class Stage:
    """Stage of parallel branches, highest resolution first.

    Stage 1 is a single branch of bottlenecks: it uses only `num_modules`, `num_blocks` and
    `channels` (of the bottleneck's inner maps).
    """

    num_modules: int
    num_blocks: tuple[int, ...]
    channels: tuple[int, ...]
    num_heads: tuple[int, ...] = (1,)
    mlp_ratios: tuple[float, ...] = (4,)
    window_sizes: tuple[tuple[int, int], ...] = ((7, 7),)

    @property
    def depth(self) -> int:
        """Number of consecutive transformer blocks on the longest branch."""
        return self.num_modules * max(self.num_blocks)


def stages_from_arch(arch: str | Mapping) -> tuple[Stage, ...]:
    """Convert a name of `ARCHS` or a flat dict to four stages.

    Args:
        arch: 'tiny', 'small', 'base', or a dict. Required keys: `channels` and `num_heads`, one
            value a branch. Optional keys: `mlp_ratios` and `window_sizes` (an int or (height,
            width)), one value a branch; `num_modules` and `num_blocks`, one value a stage;
            `stem_channels`, the channels of stage 1's inner maps. A number is repeated four times.

    Raises:
        ConfigError: unknown name, missing key, or a tuple whose length is not four.
        UnknownArgumentError: unknown key.
    """
    if isinstance(arch, str):
        if arch not in ARCHS:
            raise ConfigError(f'arch={arch!r} is not one of {", ".join(ARCHS)} (or a dict)')
        arch = ARCHS[arch]
    _check_keys('arch', arch, required=REQUIRED, optional=DEFAULTS)
    spec = {**DEFAULTS, **arch}
    stem_channels = spec.pop('stem_channels')
    spec = {key: _as_four(key, value) for key, value in spec.items()}
    stem = Stage(spec['num_modules'][0], (spec['num_blocks'][0],), (stem_channels,))
    return (stem, *(_stage_from_arch(spec, index) for index in (1, 2, 3)))


def stages_from_extra(extra: Mapping) -> tuple[tuple[Stage, ...], dict[str, Any]]:
    """Convert MMPose's nested `extra` to four stages and other settings.

    `extra` is not modified. Keys that MMPose's class adds to it are accepted.

    Args:
        extra: `stage1` to `stage4`, and optionally `drop_path_rate`, `with_rpe`, `with_pad_mask`
            and `upsample`.

    Returns:
        Four stages, and a dict with `drop_path_rate`, `with_rpe`, `with_pad_mask`,
        `multiscale_output` and `upsample` (a key of `layers.fusion.UPSAMPLE`) where given.

    Raises:
        ConfigError: an invalid value.
        UnknownArgumentError: an unknown key.
    """
    names = ('stage1', 'stage2', 'stage3', 'stage4')
    scalars = ('drop_path_rate', 'with_rpe', 'with_pad_mask')
    _check_keys('extra', extra, required=names, optional=(*scalars, 'upsample'))
    settings = {key: extra[key] for key in scalars if key in extra}
    if 'upsample' in extra:
        settings['upsample'] = _upsample(extra['upsample'])
    if 'multiscale_output' in extra['stage4']:
        settings['multiscale_output'] = extra['stage4']['multiscale_output']
    return tuple(_stage_from_extra(name, extra[name]) for name in names), settings


def _stage_from_extra(name: str, spec: Mapping) -> Stage:
    per_branch: tuple[str, ...] = ('num_blocks', 'num_channels')
    required = ('num_modules', 'num_branches', 'block', *per_branch)
    block, attention = 'BOTTLENECK', ('num_heads', 'mlp_ratios', 'window_sizes')
    optional: tuple[str, ...] = ('multiscale_output', 'drop_path_rates')
    if name == 'stage1':
        # Some of MMPose's configs have these keys; bottlenecks do not use them.
        optional += (*attention, 'num_mlp_ratios')
    else:
        block, required = 'HRFORMERBLOCK', (*required, *attention)
        per_branch += attention
    _check_keys(f'extra.{name}', spec, required, optional)
    if spec['block'] != block:
        raise ConfigError(f'extra.{name}: block={spec["block"]!r} is not {block!r}')
    for key in per_branch:
        if len(spec[key]) != spec['num_branches']:
            raise ConfigError(
                f'extra.{name}: {key} has {len(spec[key])} entries, '
                f'num_branches={spec["num_branches"]} needs as many'
            )
    values = {key: tuple(spec[key]) for key in per_branch if key in attention}
    if values:
        values['window_sizes'] = tuple(_pair(window) for window in values['window_sizes'])
    return Stage(
        spec['num_modules'], tuple(spec['num_blocks']), tuple(spec['num_channels']), **values
    )


def _stage_from_arch(spec: Mapping, index: int) -> Stage:
    branches = index + 1
    return Stage(
        spec['num_modules'][index],
        (spec['num_blocks'][index],) * branches,
        spec['channels'][:branches],
        spec['num_heads'][:branches],
        spec['mlp_ratios'][:branches],
        tuple(_pair(window) for window in spec['window_sizes'][:branches]),
    )


def _as_four(key: str, value: Any) -> tuple:
    if not isinstance(value, Sequence):
        return (value,) * 4
    if len(value) != 4:
        raise ConfigError(f'arch: {key}={value} needs four entries, it has {len(value)}')
    return tuple(value)


def _pair(window: Any) -> tuple[int, int]:
    return tuple(window) if isinstance(window, Sequence) else (window, window)


def _upsample(upsample: Mapping) -> str:
    if upsample.get('mode', 'bilinear') != 'bilinear':
        raise ConfigError(f"extra.upsample: mode={upsample['mode']!r} is not 'bilinear'")
    return 'bilinear_aligned' if upsample.get('align_corners') else 'bilinear'


def _check_keys(name: str, spec: Mapping, required, optional) -> None:
    if not isinstance(spec, Mapping):
        raise ConfigError(f'{name} must be a dict, it is {spec!r}')
    if missing := [key for key in required if key not in spec]:
        raise ConfigError(f'{name} lacks {", ".join(missing)}')
    valid = {*required, *optional}
    if unknown := [key for key in spec if key not in valid]:
        raise UnknownArgumentError(
            f'{name}: unknown key {", ".join(map(repr, unknown))}; '
            f'known: {", ".join(sorted(valid))}'
        )
