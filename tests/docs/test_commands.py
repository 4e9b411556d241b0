"""Every command and every block of Python in README, docs/ and examples/README.md can be parsed.

`test_running.py` runs them; `command_lists.py` states which it cannot run, and why.
"""

import importlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip('mmpose')
from hrformer_mmpose import zoo
from hrformer_mmpose.cli import main as hrformer
from tests.conftest import ROOT

from . import pages
from .command_lists import ONLINE, PARSED, PYTHON_CHANGED, RUN

LISTS = RUN, ONLINE, PARSED


def test_every_command_is_in_one_of_the_lists():
    found = {command for _, command in pages.all_commands()}
    assert len(found) > 60
    listed = [command for commands in LISTS for command in commands]
    assert sorted(found - {*listed}) == [], 'run it, or say why not'
    assert sorted({*listed} - found) == [], 'no page has it'
    assert len({*listed}) == len(listed)
    assert len(PARSED) < 5


def parser_of(words: list[str]) -> tuple[Callable, list[str]] | None:
    """Parser of a command of this package and the words that it gets; None for other commands."""
    if words[0] == 'hrformer':
        assert words[1] in hrformer.COMMANDS
        name, rest = words[1].replace('-', '_'), words[2:]
    elif words[0] == 'python' and words[1].startswith('tools/'):
        assert (ROOT / words[1]).is_file()
        name, rest = Path(words[1]).stem, words[2:]
    elif words[:2] == ['bash', 'tools/dist_train.sh']:
        assert words[3].isdecimal()
        name, rest = 'train', [words[2], *words[4:]]
    elif words[:2] == ['bash', 'tools/dist_test.sh']:
        assert words[4].isdecimal()
        name, rest = 'test', [*words[2:4], *words[5:]]
    elif words[:2] == ['bash', 'tools/slurm_train.sh']:
        name, rest = 'train', [words[4], '--work-dir', *words[5:]]
    else:
        return None
    module = importlib.import_module(f'hrformer_mmpose.cli.{name}')
    if words[:2] == ['python', 'tools/benchmark.py']:
        return module.tool_parser, rest
    if name == 'predict':
        module = importlib.import_module('hrformer_mmpose.cli.predict.arguments')
    return module.parser, rest


def check_other(words: list[str]) -> None:
    """Check a command of another program as far as it names things of this repository."""
    if words[0] == 'make':
        assert f'\n{words[1]}:' in (ROOT / 'Makefile').read_text()
    elif words[:2] == ['pip', 'install']:
        extras = re.findall(r'\[([\w,]+)\]', ' '.join(words))
        known = (ROOT / 'pyproject.toml').read_text()
        assert all(f'\n{name} = [' in known for group in extras for name in group.split(','))
    elif words[:3] == ['python', '-m', 'hrformer_mmpose.synthetic']:
        assert {word for word in words if word.startswith('--')} <= {
            '--num-train',
            '--num-val',
            '--masks',
            '--seed',
        }
    elif words[0] == 'python':
        assert words[1].startswith('docs/')
        assert (ROOT / words[1]).is_file()
    elif words[0] == 'jupyter':
        assert (ROOT / words[2]).is_file()
    elif words[0] == 'uvicorn':
        assert 'app = ' in (ROOT / 'examples/service.py').read_text()
    else:
        assert words[0] in ('.', 'export', 'curl')


@pytest.mark.parametrize('command', [*RUN, *ONLINE, *PARSED])
def test_a_command_can_be_parsed(command):
    for words in pages.simple_commands(command):
        if words == []:  # of settings alone
            continue
        found = parser_of(words)
        if found is None:
            check_other(words)
            continue
        parser, arguments = found
        parser().parse_args(arguments)
        for word in arguments:
            if re.fullmatch(r'(configs/.*\.py|hrformer_\w+_\d+x\d+)', word):
                assert zoo.find(word)


def test_a_wrong_flag_and_a_missing_config_are_found():
    parser, arguments = parser_of(['python', 'tools/train.py', 'CONFIG', '--rezume'])
    with pytest.raises(SystemExit):
        parser().parse_args(arguments)
    with pytest.raises(Exception, match='hrformer_huge'):
        test_a_command_can_be_parsed('python tools/train.py configs/hrformer_huge_coco_1x1.py')


@pytest.mark.parametrize('page', [*pages.PAGES, 'ARCHITECTURE.md', 'CONTRIBUTING.md'])
def test_scripts_named_in_the_text_exist(page):
    scripts = re.findall(r'`(?:python|bash) ((?:tools|docs|examples)/\w+\.\w+)', pages.read(page))
    assert [script for script in scripts if not (ROOT / script).is_file()] == []
    names = re.findall(r'`hrformer ([a-z][\w-]*)', pages.read(page))
    assert set(names) <= set(hrformer.COMMANDS)


def test_the_list_of_changed_python_is_right():
    for (page, start), pairs in PYTHON_CHANGED.items():
        texts = [block.text for block in pages.blocks(page) if block.text.startswith(start)]
        assert len(texts) == 1
        assert all(old in texts[0] for old, _ in pairs)


def test_blocks_of_python_are_python():
    for page in pages.PAGES:
        for block in pages.blocks(page):
            assert block.language in ('', 'bash', 'python'), f'{page}:{block.line}'
            if block.language == 'python':
                compile(block.text, f'{page}:{block.line}', 'exec')
