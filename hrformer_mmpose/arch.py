"""What a HRFormer consists of, and the ways to say it: a name, a flat dict, or MMPose's `extra`.

All three become a tuple of four `Stage`s, which is the only form the network knows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import ConfigError, UnknownArgumentError

# Paper, table 1. Per stage: num_modules, num_blocks. Per branch: channels, num_heads (and, where
# they differ from the defaults below, mlp_ratios and window_sizes).
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
    """One stage of parallel branches, highest resolution first.

    Stage 1 is a single branch of bottlenecks: of its per-branch values only `channels` (the width
    of the bottleneck's inner maps) and `num_blocks` count.
    """

    num_modules: int
    num_blocks: tuple[int, ...]
    channels: tuple[int, ...]
    num_heads: tuple[int, ...] = (1,)
    mlp_ratios: tuple[float, ...] = (4,)
    window_sizes: tuple[tuple[int, int], ...] = ((7, 7),)

    @property
    def depth(self) -> int:
        """Transformer blocks one after the other on the longest branch."""
        return self.num_modules * max(self.num_blocks)


def stages_from_arch(arch: str | Mapping) -> tuple[Stage, ...]:
    """Four stages from a name of `ARCHS` or a flat dict.

    Args:
        arch: 'tiny', 'small', 'base', or a dict. Required keys: `channels` and `num_heads`, one
            value a branch. Optional: `mlp_ratios` and `window_sizes` (an int or (height, width)),
            one a branch; `num_modules` and `num_blocks`, one a stage; `stem_channels`, the width
            of stage 1's inner maps. A single number stands for four equal ones.

    Raises:
        ConfigError: unknown name, missing key, or a tuple of another length than four.
        UnknownArgumentError: unknown key.
    """
    if isinstance(arch, str):
        if arch not in ARCHS:
            raise ConfigError(f'arch={arch!r} is not one of {", ".join(ARCHS)} (or a dict)')
        arch = ARCHS[arch]
    _check_keys('arch', arch, required=REQUIRED, optional=DEFAULTS)
    spec = {**DEFAULTS, **arch}
    stem_channels = spec.pop('stem_channels')
    spec = {key: _four(key, value) for key, value in spec.items()}
    stem = Stage(spec['num_modules'][0], (spec['num_blocks'][0],), (stem_channels,))
    return (stem, *(_stage_of(spec, index) for index in (1, 2, 3)))


def stages_from_extra(extra: Mapping) -> tuple[tuple[Stage, ...], dict[str, Any]]:
    """Four stages, and the other settings, from MMPose's nested `extra`.

    `extra` is left as it is. Keys that MMPose's own class writes into it are accepted.

    Args:
        extra: `stage1` to `stage4`, and optionally `drop_path_rate`, `with_rpe`, `with_pad_mask`
            and `upsample`.

    Returns:
        The stages, and the other settings by `HRFormer`'s names, `upsample` as `layers.fusion`'s.

    Raises:
        ConfigError: a value that does not fit. UnknownArgumentError: an unknown key.
    """
    names = ('stage1', 'stage2', 'stage3', 'stage4')
    plain = ('drop_path_rate', 'with_rpe', 'with_pad_mask')
    _check_keys('extra', extra, required=names, optional=(*plain, 'upsample'))
    settings = {key: extra[key] for key in plain if key in extra}
    if 'upsample' in extra:
        settings['upsample'] = _upsample(extra['upsample'])
    if 'multiscale_output' in extra['stage4']:
        settings['multiscale_output'] = extra['stage4']['multiscale_output']
    return tuple(_stage_from_extra(name, extra[name]) for name in names), settings


def _stage_from_extra(name: str, spec: Mapping) -> Stage:
    per_branch = ('num_blocks', 'num_channels')
    required = ('num_modules', 'num_branches', 'block', *per_branch)
    block, attention = 'BOTTLENECK', ('num_heads', 'mlp_ratios', 'window_sizes')
    optional: tuple[str, ...] = ('multiscale_output', 'drop_path_rates')
    if name == 'stage1':
        # MMPose's configs give them, some by the latter name; a bottleneck has no use for them.
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
    if name == 'stage1':
        return Stage(spec['num_modules'], tuple(spec['num_blocks']), tuple(spec['num_channels']))
    return Stage(
        spec['num_modules'],
        tuple(spec['num_blocks']),
        tuple(spec['num_channels']),
        tuple(spec['num_heads']),
        tuple(spec['mlp_ratios']),
        tuple(_pair(window) for window in spec['window_sizes']),
    )


def _stage_of(spec: Mapping, index: int) -> Stage:
    branches = index + 1
    return Stage(
        spec['num_modules'][index],
        (spec['num_blocks'][index],) * branches,
        spec['channels'][:branches],
        spec['num_heads'][:branches],
        spec['mlp_ratios'][:branches],
        tuple(_pair(window) for window in spec['window_sizes'][:branches]),
    )


def _four(key: str, value: Any) -> tuple:
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
    known = {*required, *optional}
    if unknown := [key for key in spec if key not in known]:
        raise UnknownArgumentError(
            f'{name}: unknown key {", ".join(map(repr, unknown))}; '
            f'known: {", ".join(sorted(known))}'
        )
