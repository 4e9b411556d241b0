"""Comparison of the architectures and heads of a file and a network."""

from collections.abc import Mapping
from pathlib import Path

from ..errors import WeightsError
from .pose_transformers import head_description, shapes_of
from .state_dict_adapter import (
    INCOMPLETE,
    TABLE,
    State,
    architecture,
    lower_maps,
    num_classes,
    num_keypoints,
)

HEAD = 'head.'


def check_architecture(
    state: State, target: Mapping, wrong: list[str], missing: list[str], source: str | Path
) -> None:
    """Refuse a file of another architecture; `wrong` and `missing` name its misfits."""
    ours = {key for key in target if not key.startswith(HEAD)}
    optional = {*lower_maps(target)}
    lacks = [key for key in missing if key in ours and key not in optional]
    misfits = [key for key in wrong if key in ours]
    held, built = architecture(state), architecture(target)
    both_hrformer = held.startswith('HRFormer') and built.startswith('HRFormer')
    both_prtr = held.startswith('PRTR') and built.startswith('PRTR')
    # Entries of a smaller network may all be found in the file of a larger one.
    differs = held != built and (both_prtr or (both_hrformer and _comparable(state, target)))
    if not (lacks or misfits or differs):
        return
    if held not in (built, INCOMPLETE):
        raise WeightsError(
            f"'{source}' holds {held}, the config builds {built}: take the config that fits the "
            'file, or another file'
        )
    what = f'{misfits[0]} has another shape' if misfits else f'{(lacks or [""])[0]} is missing'
    raise WeightsError(f"'{source}' does not fit the config, which builds {built}: {what}")


def _comparable(state: State, target: Mapping) -> bool:
    """Return whether both or neither have tables, which heads and window are derived from."""
    return len({any(key.endswith(TABLE) for key in entries) for entries in (state, target)}) == 1


def check_head(state: State, target: Mapping, wrong: list[str], source: str | Path) -> None:
    """Refuse a head of another size; `wrong` names the misfits of the file."""
    held, built = (head_description(shapes_of(entries)) for entries in (state, target))
    if None not in (held, built) and held != built:
        raise WeightsError(
            f"'{source}' holds {held}, the config builds {built}: take the config that fits the "
            'file, or another file'
        )
    if not wrong:
        return
    hint = (
        'to train from its backbone alone, set model.backbone.init_cfg.type=Pretrained, '
        'model.backbone.init_cfg.prefix=backbone and model.backbone.init_cfg.checkpoint to the '
        'file instead of load_from'
    )
    for what, count in (('keypoints', num_keypoints), ('classes', num_classes)):
        if (held := count(state)) != (built := count(target)):
            raise WeightsError(
                f"'{source}' predicts {held} {what}, the config builds a head for {built}; {hint}"
            )
    raise WeightsError(f"the head in '{source}' does not fit the config ({wrong[0]}); {hint}")
