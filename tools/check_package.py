"""Install a wheel or source archive in an empty environment and run the README's first example.

    python tools/check_package.py dist/hrformer_mmpose-0.1.0-py3-none-any.whl

The versions are those of requirements.txt. Everything happens in a temporary folder, so that
nothing of the checkout is imported. Needs only Python and pip.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# What a reader has before the first example: an image with a person, and weights.
PREPARE = """
import cv2
import numpy as np
from hrformer_mmpose.checkpoint import save_weights
from hrformer_mmpose.inference.torch_network import build
from hrformer_mmpose.zoo import read_config

pixels = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
cv2.imwrite('image.jpg', cv2.GaussianBlur(pixels, (0, 0), 9))
save_weights(build(read_config({config!r}), 'config').state_dict(), 'checkpoint.pth', 'mmpose')
"""
CHECK = """
import hrformer_mmpose, sys
assert hrformer_mmpose.__file__.startswith(sys.prefix), hrformer_mmpose.__file__
assert hrformer_mmpose.__version__ == {version!r}, hrformer_mmpose.__version__
assert poses and all(pose.keypoints.shape == (17, 2) for pose in poses), poses
print(f'{{len(poses)}} pose of 17 keypoints')
"""


def first_example(readme: str) -> str:
    """Return the first block of Python in the README."""
    block = re.search(r'^```python\n(.*?)^```', readme, re.MULTILINE | re.DOTALL)
    if block is None:
        sys.exit('error: README.md holds no block of Python')
    return block[1]


def version_of(package: Path) -> str:
    """Return the version in the name of a wheel or source archive."""
    name = re.fullmatch(r'hrformer_mmpose-([^-]+?)(-.*\.whl|\.tar\.gz)', package.name)
    if name is None:
        sys.exit(f"error: '{package}' is no wheel or source archive of hrformer-mmpose")
    return name[1]


def install(python: Path, package: Path) -> None:
    """Install torch, then the other pinned packages and the archive without resolving."""
    pip = [python, '-m', 'pip', '--disable-pip-version-check', 'install', '--quiet']
    lines = (ROOT / 'requirements.txt').read_text(encoding='utf-8').splitlines()
    torch = next(line for line in lines if line.startswith('torch=='))
    rest = python.parents[1] / 'rest.txt'
    rest.write_text('\n'.join(x for x in lines if not x.startswith(('torch==', 'triton=='))))
    print(f'installing {torch}, requirements.txt and {package.name}', flush=True)
    subprocess.run([*pip, torch], check=True)
    subprocess.run([*pip, '--only-binary=:all:', '--no-deps', '-r', rest], check=True)
    subprocess.run([*pip, '--no-deps', package], check=True)


def run_example(python: Path, version: str, folder: Path) -> None:
    """Run commands and the example in an empty folder."""
    environment = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}

    def run(*command: str | Path) -> str:
        done = subprocess.run(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
        )
        if done.returncode:
            sys.exit(f'error: {Path(command[0]).name} {command[1]} failed')
        return done.stdout

    hrformer = python.with_name('hrformer')
    assert run(hrformer, '--version').strip() == version
    assert 'hrformer_base_coco_256x192' in run(hrformer, 'models')
    example = first_example((ROOT / 'README.md').read_text(encoding='utf-8'))
    config = re.search(r"'(hrformer_\w+_\d+x\d+)'", example)
    if config is None:
        sys.exit('error: the first example of README.md names no config')
    print(f'running the first example of README.md ({config[1]})', flush=True)
    run(python, '-c', PREPARE.format(config=config[1]))
    print(run(python, '-c', example + CHECK.format(version=version)), end='')


def main() -> None:
    """Check one file."""
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    flags.add_argument('package', type=Path, help='wheel (.whl) or source archive (.tar.gz)')
    package = flags.parse_args().package.resolve()
    version = version_of(package)
    if not package.is_file():
        sys.exit(f"error: '{package}' does not exist")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        venv.create(folder / 'venv', with_pip=True)
        python = folder / 'venv/bin/python'
        install(python, package)
        (folder / 'elsewhere').mkdir()
        run_example(python, version, folder / 'elsewhere')
        print(f'{package.name}: passed', flush=True)


if __name__ == '__main__':
    main()
