"""Checks of a release: tag, version, citation, changelog, the tried example, the workflows."""

import importlib.util
import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

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


WORKFLOWS = sorted((ROOT / '.github/workflows').glob('*.yml'))


def jobs(path: Path) -> dict[str, list[dict]]:
    """Steps of each job of a workflow."""
    return {name: job['steps'] for name, job in yaml.safe_load(path.read_text())['jobs'].items()}


def commands(steps: list[dict]) -> list[list[str]]:
    lines = [line for step in steps for line in step.get('run', '').splitlines()]
    return [shlex.split(line) for line in lines]


@pytest.mark.parametrize('path', WORKFLOWS, ids=lambda path: path.name)
def test_the_commands_of_a_workflow_exist(path):
    for steps in jobs(path).values():
        installed = {'pip'}  # modules that `python -m` finds
        for words in commands(steps):
            if words[:4] == ['python', '-m', 'pip', 'install']:
                installed |= {re.match(r'[\w-]+', package)[0] for package in words[4:]}
            elif words[:2] == ['python', '-m']:
                assert words[2] in installed
            elif words[0] == 'python':
                assert (ROOT / words[1]).is_file()
            else:
                assert words[:3] == ['gh', 'release', 'create']


def test_the_release_tries_what_it_builds():
    release = yaml.safe_load((ROOT / '.github/workflows/release.yml').read_text())['jobs']
    assert [release[job].get('needs') for job in ('build', 'try', 'release')] == [
        None,
        'build',
        'try',
    ]
    uploaded, *downloaded = (
        step['with']
        for job in release.values()
        for step in job['steps']
        if 'artifact' in step.get('uses', '')
    )
    assert {step['name'] for step in downloaded} == {uploaded['name']}
    (attempt,) = commands(release['try']['steps'])
    assert attempt[1:] == ['tools/check_package.py', 'dist/${{', 'matrix.file', '}}']
    assert release['try']['strategy']['matrix']['file'] == ['*.whl', '*.tar.gz']
    (publish,) = commands(release['release']['steps'])
    files = {word for word in publish if word.endswith(('.md', '*'))}
    assert files == {'dist/*', 'notes.md'}
    assert {path.rstrip('/') for path in uploaded['path'].split()} == {'dist', 'notes.md'}


def test_the_site_is_built_with_the_packages_of_the_extra():
    text = (ROOT / 'pyproject.toml').read_text()
    extra = re.search(r'^docs = \[\n(.*?)^\]', text, re.MULTILINE | re.DOTALL)[1]
    (steps,) = jobs(ROOT / '.github/workflows/docs.yml').values()
    assert commands(steps)[0][4:] == re.findall(r'"(mkdocs.*)"', extra)
