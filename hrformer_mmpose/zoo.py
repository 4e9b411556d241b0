"""Configs of the package, by name."""

from pathlib import Path

from .errors import ConfigError

_HERE = Path(__file__).resolve().parent
# Beside the package in a checkout, inside the package after installation from a wheel.
CONFIGS = next(
    (folder for folder in (_HERE / 'configs', _HERE.parent / 'configs') if folder.is_dir()),
    _HERE / 'configs',
)


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
    raise ConfigError(
        f"config '{config}' is neither a file nor one of the names that `hrformer models` lists"
    )


def _paths() -> dict[str, Path]:
    files = (path for path in CONFIGS.rglob('*.py') if path.parent.name != '_base_')
    return {path.stem: path for path in files}
