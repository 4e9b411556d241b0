"""Errors that a user can mend: their message is one line that names what is wrong and what to do.

The command line tools print such a message alone, without a traceback (see `engine/cli.py`).
"""


class UserError(Exception):
    """Something the user gave is wrong; `str(error)` is the one line to show."""


class ConfigError(UserError, ValueError):
    """A value in a config, or an argument of one of our classes, cannot be used."""


class UnknownArgumentError(UserError, TypeError):
    """A config names an argument that does not exist."""


class DataError(UserError, ValueError):
    """A data root, an annotation file or an image is missing or broken."""


class WeightsError(UserError, OSError):
    """Weights cannot be fetched or read."""


class DivergenceError(UserError, FloatingPointError):
    """The loss or the weights of a training run are no longer finite."""
