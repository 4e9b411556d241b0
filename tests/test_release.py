"""Checks of a release: tag, version, citation, changelog, and the example that is tried."""

import importlib.util
import re
import shutil

import pytest

from hrformer_mmpose import __version__, zoo
from tests.conftest import ROOT


def tool(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / f'tools/{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def released(tmp_path):
    """A copy of the files that state the version, ready for a release."""
    (tmp_path / 'hrformer_mmpose').mkdir()
    for name in ('hrformer_mmpose/version.py', 'CITATION.cff', 'CHANGELOG.md'):
        shutil.copy(ROOT / name, tmp_path / name)
    changelog = tmp_path / 'CHANGELOG.md'
    text = re.sub(
        r'^## .*$', f'## {__version__} (2026-11-27)', changelog.read_text(), count=1, flags=re.M
    )
    changelog.write_text(text)
    return tmp_path


def test_a_tag_of_this_version_is_released_with_its_notes(released):
    check = tool('check_release')
    assert check.problems(f'v{__version__}', released) == []
    assert check.notes(released).startswith('- HRFormer-T/S/B backbone')


def test_what_keeps_a_tag_from_a_release(released):
    check = tool('check_release')
    assert 'is not v' in check.problems('v9.9.9', released)[0]
    citation = released / 'CITATION.cff'
    citation.write_text(citation.read_text().replace(f'version: {__version__}', 'version: 9'))
    changelog = released / 'CHANGELOG.md'
    changelog.write_text(changelog.read_text().replace('(2026-11-27)', '(unreleased)'))
    lines = check.problems(f'v{__version__}', released)
    assert lines[0] == f'CITATION.cff has version 9, not {__version__}'
    assert "has 'unreleased'" in lines[1]


def test_the_first_example_of_the_readme_is_one_that_can_be_tried():
    check = tool('check_package')
    example = check.first_example((ROOT / 'README.md').read_text(encoding='utf-8'))
    assert 'poses = ' in example
    assert re.search(r"'(hrformer_\w+_\d+x\d+)'", example)[1] in zoo.names()
    assert {*re.findall(r"'(\S+\.(?:jpg|pth))'", example)} == {'image.jpg', 'checkpoint.pth'}
    compile(example, 'README.md', 'exec')


def test_the_workflow_calls_files_that_exist():
    text = (ROOT / '.github/workflows/release.yml').read_text(encoding='utf-8')
    scripts = re.findall(r'python (tools/\w+\.py)', text)
    assert len(scripts) == 2
    assert all((ROOT / script).is_file() for script in scripts)
