"""Description of a network's feature maps, with the methods of timm's `FeatureInfo`."""

from collections.abc import Sequence
from typing import Any

from ..errors import ConfigError

Indices = int | Sequence[int] | None


def absolute_indices(indices: Indices, count: int) -> tuple[int, ...]:
    """Convert the `out_indices` of timm to ascending indices from 0.

    Args:
        indices: None for all maps, n for the last n, or indices, negative ones from the end.
        count: number of maps.

    Raises:
        ConfigError: an index or a number out of range, or none at all.
    """
    if indices is None:
        return tuple(range(count))
    if isinstance(indices, int):
        if not 1 <= indices <= count:
            raise ConfigError(f'out_indices={indices!r}: the last 1 to {count} maps can be taken')
        return tuple(range(count - indices, count))
    try:
        result = tuple(sorted({i + count if i < 0 else i for i in indices}))
    except TypeError as error:
        raise ConfigError(
            f'out_indices={indices!r} is neither a number nor a list of them'
        ) from error
    if not result or any(i not in range(count) for i in result):
        raise ConfigError(f'out_indices={indices!r}: give indices from {-count} to {count - 1}')
    return result


class FeatureInfo:
    """Channels and strides of feature maps.

    Without `idx` the methods describe the maps that the network returns; with an index, or a list
    of them, the maps of that index among all.

    Args:
        info: `num_chs`, `reduction` (stride in pixels of the image) and `module` of each map.
        out_indices: indices of the maps that the network returns, from 0.
    """

    def __init__(self, info: Sequence[dict[str, Any]], out_indices: Sequence[int]):
        self.info = [{**entry, 'index': index} for index, entry in enumerate(info)]
        self.out_indices = tuple(out_indices)

    def get(self, key: str, idx: int | Sequence[int] | None = None) -> Any:
        """Return the value of `key`: one for an index, else a list."""
        if isinstance(idx, int):
            return self.info[idx][key]
        return [self.info[i][key] for i in (self.out_indices if idx is None else idx)]

    def get_dicts(
        self, keys: Sequence[str] | None = None, idx: int | Sequence[int] | None = None
    ) -> Any:
        """Return the entries, or their `keys` only: one for an index, else a list."""
        if isinstance(idx, int):
            entry = self.info[idx]
            return entry if keys is None else {key: entry[key] for key in keys}
        return [self.get_dicts(keys, i) for i in (self.out_indices if idx is None else idx)]

    def channels(self, idx: int | Sequence[int] | None = None) -> Any:
        """Return the number of channels."""
        return self.get('num_chs', idx)

    def reduction(self, idx: int | Sequence[int] | None = None) -> Any:
        """Return the stride, in pixels of the image."""
        return self.get('reduction', idx)

    def module_name(self, idx: int | Sequence[int] | None = None) -> Any:
        """Return the label: 'stem', 'stage1', ... as in timm's HRNet; no names of modules."""
        return self.get('module', idx)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.info[index]

    def __len__(self) -> int:
        return len(self.info)
