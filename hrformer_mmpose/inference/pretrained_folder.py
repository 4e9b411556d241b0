"""Folders with a network: weights, settings and a model card.

    FOLDER/model.safetensors   all weights, under MMPose's names
    FOLDER/config.json         what inference needs of the config, and the weights' SHA-256
    FOLDER/README.md           model card

A folder holds no code, and reading one runs none: MMEngine's configs are Python, `config.json` is
data, whose types must be names in the registries of this package, MMPose or MMEngine.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.model import BaseModel
from mmpose.models.pose_estimators import TopdownPoseEstimator
from mmpose.registry import DATASETS

from ..checkpoint import files, hub
from ..checkpoint.state_dict_adapter import INDEX, architecture, num_parameters
from ..coco.metainfo import locate, parse_metainfo
from ..errors import ConfigError, UserError, WeightsError
from ..imaging.skeleton import Skeleton
from ..version import __version__
from . import digest
from .model_card import model_card
from .plain_config import plain, registered_class, types

SETTINGS, WEIGHTS, CARD = 'config.json', hub.WEIGHTS, 'README.md'
FORMAT = 1
UNKNOWN_SOURCE = 'the author of this folder'
_KIND = 'hrformer_mmpose.PoseEstimator'


def _is_size(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(n in range(1, 10000) for n in value)


def _is_metainfo(value: Any) -> bool:
    """Return whether the keypoints and links have numbers, which JSON writes as text."""
    entries = [value.get(key) for key in _NUMBERED] if isinstance(value, dict) else []
    return bool(entries) and all(
        isinstance(entry, dict) and all(map(str.isdecimal, entry)) for entry in entries
    )


_NUMBERED = ('keypoint_info', 'skeleton_info')
_VALID: dict[str, Callable[[Any], bool]] = dict(
    sha256=lambda value: isinstance(value, str),
    name=lambda value: isinstance(value, str) and value.isprintable() and '/' not in value,
    model=lambda value: isinstance(value, dict),
    metainfo=_is_metainfo,
    input_size=_is_size,
    padding=lambda value: isinstance(value, float) and 0 < value < 10,
    udp=lambda value: isinstance(value, bool),
)


def save(
    folder: str | Path,
    network: Any,
    results: Mapping[str, float] | None = None,
    source: str = UNKNOWN_SOURCE,
) -> None:
    """Write a folder; it appears whole or not at all.

    Args:
        folder: a new or empty one.
        network: a `TorchNetwork` that is not fused.
        results: metrics of a test, by name, for the card.
        source: how they were measured.

    Raises:
        UserError: the folder holds something or cannot be written.
        ConfigError: the config uses classes of other packages.
    """
    folder = Path(folder)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"'{folder}' exists: choose a new folder")
    model = plain(dict(network.cfg.model, test_cfg=network.test_cfg))
    for name in types(model):
        if registered_class(name) is None:
            raise ConfigError(
                f"config '{network.name}': model uses {name}, which is no class of this package, "
                'MMPose or MMEngine: a folder holds no code'
            )
    state = {k: v for k, v in network.model.state_dict().items() if not k.endswith(INDEX)}
    w, h = network.input_size
    settings = dict(
        kind=_KIND,
        format=FORMAT,
        version=__version__,
        name=network.name,
        checkpoint=Path(network.checkpoint).name,
        network=dict(architecture=architecture(state), parameters=num_parameters(state)),
        input_size=[w, h],
        padding=float(network.padding),
        udp=network.udp,
        keypoints=list(network.skeleton.names),
        model=model,
        metainfo=_metainfo(network.cfg),
    )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f'.{folder.name}-', dir=folder.parent))
        try:
            files.save_weights(state, partial / WEIGHTS, 'mmpose', keypoints=network.skeleton.names)
            settings['sha256'] = digest.sha256(partial / WEIGHTS)
            text = json.dumps(settings, indent=2)
            (partial / SETTINGS).write_text(text + '\n', encoding='utf-8')
            card = model_card(settings, results or {}, source)
            (partial / CARD).write_text(card, encoding='utf-8')
            partial.chmod(0o755)
            os.replace(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise UserError(f"'{folder}' cannot be written: {error.strerror or error}") from error


def load(source: str | Path) -> tuple[Config, str]:
    """Read a folder, a local one or a repository of the Hub.

    Args:
        source: path, or `hf://OWNER/REPO[@REVISION]`.

    Returns:
        A config for inference, and the weights for `files.read`.

    Raises:
        WeightsError: not such a folder, of another format, or its weights were changed.
        ConfigError: its settings name classes that do not exist here.
    """
    source = str(source)
    path, weights = find(source)
    settings = _read(path, source)
    local = files.local_path(weights)
    if digest.sha256(local) != settings['sha256']:
        raise WeightsError(
            f"'{source}': the SHA-256 of {WEIGHTS} is not the one in {SETTINGS}: the file was "
            'changed or damaged, copy or download the folder again'
        )
    cfg = _config(settings)
    try:
        Skeleton.from_metainfo(parse_metainfo(cfg.test_dataloader.dataset.metainfo))
    except (TypeError, ValueError, LookupError) as error:
        what = str(error).splitlines()[0]
        raise WeightsError(f"'{source}': metainfo in {SETTINGS} is not usable: {what}") from error
    return cfg, weights


def find(source: str) -> tuple[Path, str]:
    """Return the local settings of a folder, and its weights for `files.read`.

    Raises:
        WeightsError: there is no such folder, or the Hub does not give it.
    """
    if source.startswith(hub.SCHEME):
        parts = hub.parse(source)
        if parts.file:
            raise WeightsError(f"'{source}' names a file: give the repository, hf://{parts.repo}")
        path = Path(hub.fetch(f'{hub.SCHEME}{parts.repo}/{SETTINGS}@{parts.revision}'))
        # Both files of one commit, even if the branch moves.
        weights = f'{hub.SCHEME}{parts.repo}/{WEIGHTS}@{hub.commit_of(path)}'
    else:
        folder = Path(source).expanduser()
        path, weights = folder / SETTINGS, str(folder / WEIGHTS)
        if not path.is_file():
            lacks = f'holds no {SETTINGS}' if folder.is_dir() else 'is no folder'
            raise WeightsError(f"'{source}' {lacks}: give a folder that save_pretrained wrote")
    return path, weights


def _read(path: Path, source: str) -> dict[str, Any]:
    """Read and check the settings."""
    try:
        settings = json.loads(path.read_text(encoding='utf-8'))
    except (ValueError, RecursionError, OSError) as error:
        raise WeightsError(f"'{source}': {SETTINGS} cannot be read: {error}") from error
    if not isinstance(settings, dict) or settings.get('kind') != _KIND:
        raise WeightsError(
            f"'{source}': {SETTINGS} was not written by save_pretrained of this package; give its "
            'weights as checkpoint, with their config'
        )
    if settings.get('format') != FORMAT:
        raise WeightsError(
            f"'{source}' has format {settings.get('format')!r} (written by version "
            f'{settings.get("version")!r}), this version reads {FORMAT}: install that version, or '
            'write the folder again'
        )
    invalid = [key for key, valid in _VALID.items() if not valid(settings.get(key))]
    if invalid:
        raise WeightsError(f"'{source}': {SETTINGS} has no valid entry '{invalid[0]}'")
    _check_model(settings['model'], source)
    return settings


def _check_model(model: Mapping[str, Any], source: str) -> None:
    """Refuse a model that would run code or read other files when it is built.

    MMPose's estimators and distillers read the configs, which are Python, of other models that
    their arguments name.
    """
    for name in types(model):
        if registered_class(name) is None:
            raise ConfigError(
                f"'{source}': {SETTINGS} names the class {name}, which is not of this package, "
                'MMPose or MMEngine: it is not loaded'
            )
    outer = model.get('type')
    if not isinstance(outer, str) or registered_class(outer) is not TopdownPoseEstimator:
        raise ConfigError(
            f"'{source}': {SETTINGS} describes a {outer}, no TopdownPoseEstimator: it is not loaded"
        )
    for name in [*types(model)][1:]:
        kind = registered_class(name)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            raise ConfigError(
                f"'{source}': {SETTINGS} has a whole model within the model, {name}: it is not "
                'loaded'
            )


def _config(settings: Mapping[str, Any]) -> Config:
    """Return the config that `TorchNetwork` reads, without any code."""
    pipeline = [
        dict(type='GetBBoxCenterScale', padding=settings['padding']),
        dict(type='TopdownAffine', input_size=settings['input_size'], use_udp=settings['udp']),
    ]
    metainfo = dict(settings['metainfo'])
    metainfo.pop('from_file', None)  # would be run
    for key in _NUMBERED:  # JSON has no numbers as keys
        metainfo[key] = {int(index): entry for index, entry in metainfo[key].items()}
    model = plain(settings['model'])
    model.pop('metainfo', None)  # may name a file to run; inference has its own, above
    content = dict(
        default_scope='mmpose',
        model=model,
        test_dataloader=dict(
            dataset=dict(type='CocoDataset', metainfo=metainfo, pipeline=pipeline)
        ),
    )
    return Config(content, cfg_text=json.dumps(content), filename=f'{settings["name"]}.json')


def _metainfo(cfg: Config) -> dict[str, Any]:
    """Return the definition of the keypoints as data."""
    dataset = cfg.test_dataloader.dataset
    metainfo = dataset.get('metainfo') or DATASETS.get(dataset.type).METAINFO
    parse_metainfo(metainfo)  # checks it
    if 'from_file' in metainfo:
        metainfo = Config.fromfile(locate(metainfo)['from_file']).dataset_info
    return json.loads(json.dumps(plain(metainfo)))
