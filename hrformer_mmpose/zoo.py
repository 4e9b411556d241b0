"""The configs that come with the package, by name."""

from pathlib import Path

from .errors import ConfigError

_HERE = Path(__file__).resolve().parent
# Beside the package in a checkout, inside it where a wheel was installed.
CONFIGS = next(
    (folder for folder in (_HERE / 'configs', _HERE.parent / 'configs') if folder.is_dir()),
    _HERE / 'configs',
)


def names() -> list[str]:
    """Names of all configs."""
    return sorted(path.stem for path in CONFIGS.glob('*.py'))


def find(config: str | Path) -> str:
    """Path of a config given by path or by name.

    Raises:
        ConfigError: neither a file nor a name that is known.
    """
    path = Path(config)
    if path.is_file():
        return str(path)
    named = CONFIGS / f'{path.name.removesuffix(".py")}.py'
    if path.parent == Path() and named.is_file():
        return str(named)
    raise ConfigError(
        f"config '{config}' is neither a file nor one of the names that `hrformer models` lists"
    )
