"""Matching of weights and network; everything is checked before a weight is loaded.

Entries that the network lacks (a head, index buffers, maps of lower resolution) are skipped.
Missing entries are accepted only when training starts from the file: a head then keeps its initial
values, except for the rows of keypoints that both have (`head_rows`). Any other difference is an
error that names the content of the file and the configured network.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from ..errors import WeightsError
from . import files
from .bias_tables import resize_tables
from .head_rows import Keypoints, take_rows
from .match_checks import HEAD, check_architecture, check_head
from .match_report import conversion, groups, is_finite
from .pose_transformers import head_description, shapes_of
from .state_dict_adapter import (
    INDEX,
    TABLE,
    State,
    architecture,
    num_classes,
    num_keypoints,
    origin,
    to_mmpose,
)

BACKBONE = 'backbone.'


@dataclass
class Match:
    """Weights under the network's names, with log lines and warnings.

    Attributes:
        state: the weights.
        missing: names that the network has and the file has not.
        lines: for the log.
        warnings: for the log.
    """

    state: State
    missing: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def load_into(self, model: nn.Module) -> None:
        """Load the weights into the network; missing entries keep their values."""
        model.load_state_dict(self.state, strict=False)

    def log(self, logger: logging.Logger) -> None:
        """Log what was recognised, converted, loaded and skipped, then the warnings."""
        for line in self.lines:
            logger.info(line)
        for warning in self.warnings:
            logger.warning(warning)


def match(
    weights: Mapping[str, torch.Tensor],
    model: nn.Module,
    source: str | Path,
    stored_origin: str | None = None,
    complete: bool = False,
    keypoints: Keypoints | None = None,
) -> Match:
    """Convert weights to the names of a network and check that they fit.

    The authors' released pose code computes the relative position bias without adding it. If the
    network adds one, the tables of such a file become zeros, which gives the same output;
    `HRFormer(official_pose_rpe=True)` loads the tables instead.

    Args:
        weights: as `load_weights` returns them.
        model: a pose estimator with `backbone` and `head`, or a backbone.
        source: name of the file, for messages.
        stored_origin: origin stored in the file (`files.recorded_origin`), if any.
        complete: require weights for the whole network, as for testing. Otherwise its head and its
            lower maps may keep their initial values.
        keypoints: names on both sides, for a training that may have other keypoints than the file.

    Raises:
        WeightsError: the file is of another architecture, predicts another number of keypoints or
            classes, or lacks entries that `complete` requires.
    """
    target = model.state_dict()
    source_origin = stored_origin or origin(weights)
    try:
        state = _at_prefix(to_mmpose(weights), target)
    except WeightsError as error:
        raise WeightsError(f"'{source}': {error}") from error
    resizes = not complete and any(getattr(m, 'resize_rpe', False) for m in model.modules())
    resized = resize_tables(state, target) if resizes else {}
    state |= resized
    shapes = shapes_of(target)
    result = Match({key: value for key, value in state.items() if key in shapes})
    _fit_tables(result, state, model, target, source, source_origin)
    result.state.update({key: value for key, value in target.items() if key.endswith(INDEX)})

    def misfits() -> list[str]:
        return [key for key, value in result.state.items() if tuple(value.shape) != shapes[key]]

    missing = [
        key for key in shapes if key not in result.state and not key.endswith('num_batches_tracked')
    ]
    check_architecture(state, target, misfits(), missing, source)
    files.check_types(result.state, target, source)
    line = None
    if keypoints is not None:
        line = take_rows(result.state, target, keypoints, source_origin, source)
    check_head(state, target, misfits(), source)
    if missing and complete:
        raise WeightsError(
            f"'{source}' holds no weights for {groups(missing)}, which the config builds: "
            'a backbone alone can start a training, not be tested or resumed'
        )
    _describe(result, weights, state, missing, source, source_origin)
    result.lines += [line] if line else []
    if resized:
        result.lines.append(f'resized to other windows: {len(resized)} bias tables')
    return result


def _describe(
    result: Match,
    weights: Mapping[str, torch.Tensor],
    state: State,
    missing: list[str],
    source: str | Path,
    source_origin: str,
) -> None:
    """Add the lines and warnings of a match."""
    skipped = [key for key in state if key not in result.state and not key.endswith(INDEX)]
    counts = dict(keypoints=num_keypoints(weights), classes=num_classes(weights))
    head = head_description(shapes_of(state))
    network = architecture(weights) + (f' with {head}' if head else '')
    network += ''.join(f', {n} {name}' for name, n in counts.items() if n is not None)
    result.lines = [
        f"recognised '{source}': {network}, origin {source_origin}",
        f'converted: {conversion(weights, state)}',
        f'loaded: {groups(result.state)}',
        f'skipped: {groups(skipped) or "nothing"}',
    ]
    if missing:
        result.missing = missing
        result.lines.append(f'not in the file, initialised anew: {groups(missing)}')
    broken = [key for key, value in result.state.items() if not is_finite(value)]
    if broken:
        result.warnings.append(
            f"'{source}': {len(broken)} of {len(result.state)} entries hold NaN or infinite "
            f'values (the first is {broken[0]}); predictions will be useless'
        )


def load_pretrained(model: nn.Module, source: str | Path, prefix: str | None = None) -> Match:
    """Load a file of any origin into a network before training.

    Args:
        model: see `match`.
        source: path or address.
        prefix: load only the entries under this prefix.

    Returns:
        The match, with its log lines.

    Raises:
        WeightsError: the file cannot be read or does not fit. The network is as it was.
    """
    content = files.read(source)
    weights = files.weights_in(content, source)
    if prefix:
        start = prefix.rstrip('.') + '.'
        weights = {k.removeprefix(start): v for k, v in weights.items() if k.startswith(start)}
        if not weights:
            raise WeightsError(f"'{source}' holds no entry under the prefix '{start}'")
    result = match(weights, model, source, files.recorded_origin(content))
    result.load_into(model)
    return result


def load_init_cfg(model: nn.Module) -> bool:
    """Load the file of `model.init_cfg`; return False if it names no file.

    Raises:
        WeightsError: the file cannot be fetched or read, or does not fit.
    """
    cfg = model.init_cfg
    if not isinstance(cfg, Mapping) or cfg.get('type') != 'Pretrained':
        return False
    from mmengine.logging import MMLogger  # `init_cfg` exists only with MMEngine

    try:
        result = load_pretrained(model, cfg['checkpoint'], cfg.get('prefix'))
    except WeightsError as error:
        raise WeightsError(
            f'no pre-trained weights: {error}. To start from random weights, add --cfg-options '
            'model.backbone.init_cfg=None; to use another file, '
            'model.backbone.init_cfg.checkpoint=FILE'
        ) from error
    result.log(MMLogger.get_current_instance())
    return True


def _at_prefix(state: State, target: Mapping[str, torch.Tensor]) -> State:
    """Add or remove the prefix of the backbone so that entries match `target`."""
    is_whole = any(key.startswith(BACKBONE) for key in state)
    target_is_whole = any(key.startswith(BACKBONE) for key in target)
    if is_whole and not target_is_whole:
        return {key.removeprefix(BACKBONE): value for key, value in state.items()}
    if target_is_whole and not is_whole:
        return {
            key if key.startswith(HEAD) else BACKBONE + key: value for key, value in state.items()
        }
    return state


def _fit_tables(
    result: Match,
    state: State,
    model: nn.Module,
    target: Mapping,
    source: str | Path,
    source_origin: str,
) -> None:
    """Resolve differences of file and config in the relative position bias."""
    target_tables = [key for key in target if key.endswith(TABLE)]
    file_tables = [key for key in state if key.endswith(TABLE)]
    add_theirs = any(getattr(m, 'official_pose_rpe', False) for m in model.modules())
    if target_tables and file_tables and source_origin == 'official-pose' and not add_theirs:
        result.state.update({key: torch.zeros_like(target[key]) for key in target_tables})
        result.warnings.append(
            f"'{source}' is a pose file of the authors, whose code computes a relative position "
            'bias and does not add it; the config adds one (with_rpe=True). It starts at zero, '
            'which computes what their code does; to add the bias of the file set '
            'model.backbone.official_pose_rpe=True'
        )
    elif target_tables and not file_tables and source_origin != 'unknown':
        result.state.update({key: torch.zeros_like(target[key]) for key in target_tables})
        result.warnings.append(
            f"'{source}' holds no relative position bias, the config adds one (with_rpe=True): it "
            'is zero, which computes what the network of the file does'
        )
    elif file_tables and not target_tables and source_origin != 'official-pose':
        result.warnings.append(
            f"the network of '{source}' adds a relative position bias, the config does not "
            '(with_rpe=False): predictions will differ from the published ones'
        )
