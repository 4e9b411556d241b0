"""What a wheel holds."""

import sys

import pytest

from tests.conftest import ROOT

tomllib = pytest.importorskip('tomllib' if sys.version_info >= (3, 11) else 'tomli')
SETTINGS = tomllib.loads((ROOT / 'pyproject.toml').read_text())


def test_all_packages_are_listed():
    folders = {path.parent for path in (ROOT / 'hrformer_mmpose').rglob('*.py')}
    expected = {'.'.join(folder.relative_to(ROOT).parts) for folder in folders}
    configs = {path.parent.relative_to(ROOT) for path in (ROOT / 'configs').rglob('*.py')}
    places = {'.'.join(('hrformer_mmpose', *f.parts)): f.as_posix() for f in configs}
    places['hrformer_mmpose'] = 'hrformer_mmpose'
    listed = SETTINGS['tool']['setuptools']['packages']
    assert sorted(listed) == sorted(expected | places.keys())
    assert SETTINGS['tool']['setuptools']['package-dir'] == places
    assert all((folder / '__init__.py').exists() for folder in folders)


def test_what_is_no_python_is_listed():
    listed = {
        path
        for package, patterns in SETTINGS['tool']['setuptools']['package-data'].items()
        for pattern in patterns
        for path in (ROOT / package.replace('.', '/')).glob(pattern)
    }
    kinds = ('.c', '.h', '.js', '.css')
    files = [path for path in (ROOT / 'hrformer_mmpose').rglob('*') if path.suffix in kinds]
    assert len(files) == 6
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
