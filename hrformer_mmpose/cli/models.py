"""`hrformer models`: the configs that come with the package."""

import argparse

from .. import zoo


def parser() -> argparse.ArgumentParser:
    """No flags."""
    return argparse.ArgumentParser(
        description='List the configs that come with the package, with what was published of them'
    )


def run(args: argparse.Namespace) -> None:
    """Print a line for each config."""
    from .model_table import PUBLISHED

    print(f'{"name":<44}{"M params":>9}{"published on COCO val2017 / ImageNet":>40}')
    for name in zoo.names():
        known = PUBLISHED.get(name)
        params = f'{known.params:g}' if known and known.params else '-'
        score = f'{known.score} ({known.source})' if known and known.score else '-'
        print(f'{name:<44}{params:>9}{score:>40}')
    print(f'\nfiles: {zoo.CONFIGS}; parameters and FLOPs counted: tools/model_table.py')
