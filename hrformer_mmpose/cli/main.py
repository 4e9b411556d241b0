"""Entry point of `hrformer`."""

import argparse
import importlib
import sys

from ..version import __version__
from . import terminal

COMMANDS = {
    'predict': 'poses on images, folders, videos or a camera',
    'export': 'write a network as ONNX or for OpenVINO, and check it',
    'benchmark': "time HRFormer beside MMPose's networks, exported files, or whole predictions",
    'web': 'a page to try a network on images and videos',
    'doctor': 'list what is installed and what is missing',
    'new-dataset': 'config and metainfo for annotations of your own, checked and drawn',
    'save-pretrained': 'write a trained network as a folder to publish, with a model card',
    'models': 'list the configs that come with the package',
}
USAGE = 'usage: hrformer COMMAND ... (hrformer COMMAND --help lists its flags)'


def main() -> None:
    """Run the command that the command line names."""
    name = sys.argv[1] if len(sys.argv) > 1 else '--help'
    if name in ('-h', '--help'):
        print(USAGE + '\n')
        for command, description in COMMANDS.items():
            print(f'  {command:<15} {description}')
        return
    if name == '--version':
        print(__version__)
        return
    if name not in COMMANDS:
        sys.exit(f"error: '{name}' is not one of the commands {', '.join(COMMANDS)}")
    sys.argv[:2] = [f'hrformer {name}']
    try:
        module = importlib.import_module(f'.{name.replace("-", "_")}', __package__)
        parser: argparse.ArgumentParser = module.parser()
    except ModuleNotFoundError as error:
        sys.exit(
            f'error: hrformer {name} needs the package {error.name}: see docs/getting_started.md'
        )
    parser.prog = f'hrformer {name}'
    terminal.run(module.run, parser)
