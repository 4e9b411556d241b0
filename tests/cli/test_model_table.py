"""The table of configs fails if a count deviates from the published one."""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip('mmpose')
from mmengine.config import Config

from hrformer_mmpose import zoo
from hrformer_mmpose.cli import model_table
from hrformer_mmpose.errors import ConfigError, UserError
from tests.conftest import ROOT

CONFIG = 'hrformer_small_coco_256x192'
QUICK = 'hrformer_tiny_shapes_64'


def run(tmp_path, name=CONFIG) -> dict:
    out = tmp_path / 'table.json'
    model_table.run(argparse.Namespace(configs=[zoo.find(name)], json=str(out)))
    return json.loads(out.read_text())[0]


def test_counts_and_published_figures_side_by_side(tmp_path, capsys):
    row = run(tmp_path)
    assert row['params'] == pytest.approx(7.747, abs=1e-3)
    assert row['gflops_as_published'] == pytest.approx(2.75, abs=0.01)
    assert row['gflops'] > row['gflops_as_published']
    assert f'| {CONFIG} | 256x192 | 7.747 |' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('name', 'size'),
    [
        ('hrformer_tiny_people_seg_128', '128x160'),
        ('hrformer_tiny_shapes_64', '64x64'),
        ('intrawin_tiny_dwconv_coco_256x192', '256x192'),
    ],
)
def test_networks_of_other_kinds_are_counted(name, size, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # by name, wherever one is; the file's folder is made
    model_table.run(argparse.Namespace(configs=[name], json='new/table.json'))
    (row,) = json.loads((tmp_path / 'new/table.json').read_text())
    assert row['input'] == size
    assert row['gflops'] > row['gflops_as_published'] > 0
    assert f'| {name} | {size} |' in capsys.readouterr().out


def test_every_config_says_how_large_its_input_is():
    for path in map(Path, map(zoo.find, zoo.names())):
        size = model_table.input_size(Config.fromfile(path))
        assert str(min(size)) in path.stem or str(max(size)) in path.stem, path.stem


def test_a_file_without_a_model_is_named():
    path = str(ROOT / 'configs/_base_/default_runtime.py')
    with pytest.raises(ConfigError, match=r"default_runtime.py' has no model"):
        model_table.run(argparse.Namespace(configs=[path], json=None))


def test_a_count_that_deviates_ends_it_with_a_line(tmp_path, monkeypatch):
    counted = run(tmp_path, QUICK)
    figures = {'params': counted['params'], 'gflops': 1.1 * counted['gflops_as_published']}
    wrong = replace(model_table.PUBLISHED[CONFIG], **figures, digits=(6, 6))
    monkeypatch.setitem(model_table.PUBLISHED, QUICK, wrong)
    with pytest.raises(UserError, match=f'{QUICK}: GFLOPs .*, published {wrong.gflops}'):
        run(tmp_path, QUICK)
    monkeypatch.setitem(model_table.REASONS, QUICK, 'because')
    run(tmp_path, QUICK)


def test_every_published_name_is_a_config():
    names = {path.stem for path in map(Path, map(zoo.find, zoo.names()))}
    assert set(model_table.PUBLISHED) <= names
    assert set(model_table.REASONS) <= names
