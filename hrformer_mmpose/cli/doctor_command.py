"""`hrformer doctor`."""

import argparse

from . import doctor


def parser() -> argparse.ArgumentParser:
    """No flags."""
    return argparse.ArgumentParser(description=doctor.__doc__.splitlines()[0])


def run(args: argparse.Namespace) -> int:
    """Print the report; returns the exit status."""
    return doctor.main()
