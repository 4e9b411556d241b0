"""The rooms of ARCHITECTURE.md: who imports whom, and how docstrings begin."""

import ast

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / 'hrformer_mmpose'


def test_imports_run_downwards_without_cycles(monkeypatch, capsys):
    cli = pytest.importorskip('importlinter.cli')
    monkeypatch.chdir(ROOT)
    # It would disable all loggers, on whose lines other tests of the process wait.
    monkeypatch.setattr('logging.config.dictConfig', lambda config: None)
    failed = cli.lint_imports(config_filename='pyproject.toml', no_cache=True, is_debug_mode=True)
    assert not failed, capsys.readouterr().out


def test_docstrings_begin_with_an_imperative_or_a_noun():
    first_words = {}
    for path in PACKAGE.rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node) or ''
                name = getattr(node, 'name', 'module')
                first_words[f'{path.relative_to(ROOT)}: {name}'] = text.partition(' ')[0]
    assert len(first_words) > 500
    riddles = {'What', 'Whether', 'Of', 'Whose'}
    assert [where for where, word in first_words.items() if word in riddles] == []
