"""The three functions of `pkg_resources` that MMEngine 0.10.7 calls, on `importlib.metadata`.

`host.py` supplies it as `pkg_resources` where setuptools does not.
"""

from importlib import metadata

DistributionNotFound = metadata.PackageNotFoundError


class Distribution:
    """Installed distribution: its folder, version and metadata."""

    def __init__(self, name: str):
        self._distribution = metadata.distribution(name)
        self.location = str(self._distribution.locate_file(''))
        self.version = self._distribution.version

    def has_metadata(self, name: str) -> bool:
        """Return whether the metadata contains the file `name`."""
        return self._distribution.read_text(name) is not None

    def get_metadata(self, name: str) -> str:
        """Return the text of a metadata file, empty if missing."""
        return self._distribution.read_text(name) or ''


def get_distribution(name: str) -> Distribution:
    """Return an installed distribution.

    Raises:
        DistributionNotFound: not installed.
    """
    return Distribution(name)


def __getattr__(name: str):
    if name.startswith('__'):  # probes of the import system
        raise AttributeError(name)
    raise ImportError(
        f"pkg_resources.{name} is not available here: pip install 'setuptools<81'", name=__name__
    )
