"""List the configs of the package: `hrformer models`."""

import argparse

from .. import zoo


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    return argparse.ArgumentParser(
        description='List the configs that come with the package, with their published results'
    )


def run(args: argparse.Namespace) -> None:
    """Print a line for each config."""
    from .model_table import PUBLISHED

    print(f'{"name":<44}{"M params":>9}{"published AP, top-1, mIoU":>40}')
    for name in zoo.names():
        published = PUBLISHED.get(name)
        params = f'{published.params:g}' if published and published.params else '-'
        has_score = published and published.score
        score = f'{published.score} ({published.source})' if has_score else '-'
        print(f'{name:<44}{params:>9}{score:>40}')
    print(f'\nfiles: {zoo.CONFIGS}; parameters and FLOPs counted: tools/model_table.py')
