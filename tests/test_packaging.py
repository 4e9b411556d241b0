"""What a wheel holds."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

tomllib = pytest.importorskip('tomllib' if sys.version_info >= (3, 11) else 'tomli')
PACKAGE = ROOT / 'hrformer_mmpose'
SETTINGS = tomllib.loads((ROOT / 'pyproject.toml').read_text())


def test_all_packages_are_listed():
    folders = {path.parent for path in (ROOT / 'hrformer_mmpose').rglob('*.py')}
    expected = {'.'.join(folder.relative_to(ROOT).parts) for folder in folders}
    listed = SETTINGS['tool']['setuptools']['packages']
    assert sorted(listed) == sorted(expected)
    assert all((folder / '__init__.py').exists() for folder in folders)


@pytest.mark.slow
def test_wheel_and_source_archive_hold_the_same_package(tmp_path):
    """Of a copy of the tracked files, as a release builds them."""
    source = tmp_path / 'source'
    tracked = subprocess.check_output(['git', 'ls-files', '-z'], cwd=ROOT, text=True)
    for name in filter(None, tracked.split('\0')):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    build = 'from setuptools.build_meta import *; print(build_sdist({0!r}), build_wheel({0!r}))'
    out = str(tmp_path)

    def built(folder: Path) -> list[str]:
        code = [sys.executable, '-c', build.format(out)]
        return subprocess.check_output(code, cwd=folder, text=True).split()[-2:]

    archive, wheel = built(source)
    with tarfile.open(tmp_path / archive) as tar:
        tar.extractall(tmp_path / 'unpacked', filter='data')
    names = zipfile.ZipFile(tmp_path / wheel).namelist()
    (unpacked,) = (tmp_path / 'unpacked').iterdir()
    again = zipfile.ZipFile(tmp_path / built(unpacked)[1]).namelist()
    assert sorted(again) == sorted(names)
    files = {f'hrformer_mmpose/{p.relative_to(PACKAGE).as_posix()}' for p in PACKAGE.rglob('*.py')}
    listed = [*ROOT.glob('configs/**/*.py'), *ROOT.glob('configs/**/*.yml')]
    configs = {f'hrformer_mmpose/.mim/{path.relative_to(ROOT).as_posix()}' for path in listed}
    assert files | configs | {'hrformer_mmpose/.mim/model-index.yml'} <= {*names}
    assert not [name for name in names if 'pycache' in name or name.startswith(('tests', 'docs'))]
    for name in ('CITATION.cff', 'CHANGELOG.md', 'LICENSE'):
        assert (unpacked / name).is_file()


def test_what_is_no_python_is_listed():
    listed = {
        path
        for package, patterns in SETTINGS['tool']['setuptools']['package-data'].items()
        for pattern in patterns
        for path in (ROOT / package.replace('.', '/')).glob(pattern)
    }
    kinds = ('.c', '.h', '.js', '.css')
    files = [path for path in (ROOT / 'hrformer_mmpose').rglob('*') if path.suffix in kinds]
    assert files
    assert listed == set(files)


def test_the_configs_are_found_by_name():
    from hrformer_mmpose import zoo
    from hrformer_mmpose.errors import ConfigError

    assert zoo.find('hrformer_base_coco_256x192') == str(
        ROOT / 'configs' / 'hrformer_base_coco_256x192.py'
    )
    udp = ROOT / 'configs/codecs/hrformer_base_coco_256x192_udp.py'
    for given in ('hrformer_base_coco_256x192_udp', 'configs/hrformer_base_coco_256x192_udp.py'):
        assert zoo.find(given) == str(udp)  # by name, and where it lay before
    files = [path for path in (ROOT / 'configs').rglob('*.py') if path.parent.name != '_base_']
    assert zoo.names() == sorted(path.stem for path in files)  # each name once
    with pytest.raises(ConfigError, match='hrformer models'):
        zoo.find('hrformer_huge')
    with pytest.raises(ConfigError, match='nowhere'):
        zoo.find('nowhere/hrformer_base_coco_256x192.py')


def test_the_command_is_an_entry_point():
    from hrformer_mmpose.cli.main import main

    module, _, name = SETTINGS['project']['scripts']['hrformer'].partition(':')
    assert (module, name) == (main.__module__, main.__name__)
