"""Errors with a message of one line that states what is wrong and what to do.

The commands print this line without a traceback (see `cli/terminal.py`).
"""

TRACEBACK = 'HRFORMER_TRACEBACK'  # environment variable: print tracebacks


class UserError(Exception):
    """Invalid input from the user; `str(error)` is the line to print."""


class ConfigError(UserError, ValueError):
    """Invalid value in a config or as an argument."""


class UnknownArgumentError(UserError, TypeError):
    """Argument that does not exist."""


class DataError(UserError, ValueError):
    """Missing or corrupt data root, annotation file or image."""


class WeightsError(UserError, OSError):
    """Weights that cannot be fetched, read or loaded."""


class DivergenceError(UserError, FloatingPointError):
    """Loss or weights that are no longer finite."""
