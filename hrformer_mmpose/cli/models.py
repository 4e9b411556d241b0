"""List the configs of the package: `hrformer models`."""

import argparse

from .. import zoo
from ..checkpoint import download, published


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    flags = argparse.ArgumentParser(
        description='List the configs that come with the package, with their published results'
    )
    flags.add_argument(
        '--weights', action='store_true', help='list the published weights that have a name'
    )
    return flags


def run(args: argparse.Namespace) -> None:
    """Print a line for each config, or for each published file."""
    if args.weights:
        _print_weights()
        return
    from .model_table import PUBLISHED

    print(f'{"name":<44}{"M params":>9}{"published AP, top-1, mIoU":>40}')
    for name in zoo.names():
        published = PUBLISHED.get(name)
        params = f'{published.params:g}' if published and published.params else '-'
        has_score = published and published.score
        score = f'{published.score} ({published.source})' if has_score else '-'
        print(f'{name:<44}{params:>9}{score:>40}')
    print(f'\nfiles: {zoo.CONFIGS}; parameters and FLOPs counted: tools/model_table.py')


def _print_weights() -> None:
    """Print name, published result, start of the SHA-256 and address of each file."""
    print(f'{"checkpoint":<38}{"reproduces (MMPose)":<46}{"SHA-256":<10}address')
    for name, file in published.FILES.items():
        digits = download.name_hash(file.path)
        print(f'{published.SCHEME + name:<38}{file.reproduces:<46}{digits:<10}{file.address}')
    print('\nCOCO val2017, detector of 56.4 AP, flip test. Nothing was downloaded.')
