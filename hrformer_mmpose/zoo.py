"""Configs of the package by name, and reading of any config."""

from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ConfigError

if TYPE_CHECKING:
    from mmengine.config import Config

_HERE = Path(__file__).resolve().parent
# Beside the package in a checkout; a wheel has them where MMEngine and `mim` look, see setup.py.
CONFIGS = next(
    (folder for folder in (_HERE / '.mim/configs', _HERE.parent / 'configs') if folder.is_dir()),
    _HERE / '.mim/configs',
)
CHECKPOINTS = {'.pth', '.pt', '.safetensors'}  # suffixes


def names() -> list[str]:
    """List the names of all configs."""
    return sorted(_paths())


def find(config: str | Path) -> str:
    """Return the path of a config.

    Args:
        config: a path, a name, or `configs/NAME.py` for a config in any folder of `configs/`.

    Raises:
        ConfigError: neither a file nor the name of a config.
    """
    path = Path(config)
    if path.is_file():
        return str(path)
    named = _paths().get(path.name.removesuffix('.py'))
    if named and path.parent.name in ('', 'configs'):
        return str(named)
    if path.is_dir():
        raise ConfigError(
            f"config '{config}' is a folder: give the .py file in it; a folder that is a model "
            'comes from `hrformer save-pretrained`'
        )
    raise ConfigError(
        f"config '{config}' is neither a file nor one of the names that `hrformer models` lists"
    )


def read_config(path: str | Path) -> 'Config':
    """Read a config, given by path or by name.

    Raises:
        ConfigError: the file is not there or does not parse.
    """
    from mmengine.config import Config  # names of configs are listed where MMEngine is missing

    path = find(path)
    if Path(path).suffix.lower() in CHECKPOINTS:
        raise ConfigError(f"'{path}' is a checkpoint: the config comes first")
    try:
        return Config.fromfile(path)
    except SyntaxError as error:
        where = f'{error.filename or path}, line {error.lineno}'
        raise ConfigError(f"config '{path}' does not parse: {error.msg} ({where})") from error
    except Exception as error:
        what = f'{type(error).__name__}: {error}'.strip().splitlines()[0]
        raise ConfigError(f"config '{path}' cannot be used: {what}") from error


def merge_options(cfg: 'Config', options: dict) -> None:
    """Merge the entries of --cfg-options, which overrule everything else.

    Raises:
        ConfigError: an entry leads through a value that has no entries.
    """
    for key, value in options.items():
        try:
            cfg.merge_from_dict({key: value})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(
                f'--cfg-options {key}: the config has no place for it, since a value on the way '
                'is no dict, or no list that is long enough'
            ) from error


def _paths() -> dict[str, Path]:
    files = (path for path in CONFIGS.rglob('*.py') if path.parent.name != '_base_')
    return {path.stem: path for path in files}
