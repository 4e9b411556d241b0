"""The notebook runs from top to bottom."""

import pytest

from tests.conftest import ROOT

NOTEBOOK = ROOT / 'docs/notebook.ipynb'


def notebook():
    return pytest.importorskip('nbformat').read(NOTEBOOK, as_version=4)


def test_it_is_stored_without_outputs():
    cells = [cell for cell in notebook().cells if cell.cell_type == 'code']
    assert len(cells) > 8
    assert [cell.outputs for cell in cells] == [[]] * len(cells)


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(monkeypatch, tmp_path):
    client = pytest.importorskip('nbclient')
    pytest.importorskip('ipykernel')
    pytest.importorskip('onnxruntime')
    monkeypatch.delenv('MPLBACKEND', raising=False)  # pictures in the notebook
    monkeypatch.setenv('TMPDIR', str(tmp_path))
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    run = notebook()
    client.NotebookClient(run, timeout=1800, resources=dict(metadata=dict(path=tmp_path))).execute()
    pictures = [
        output
        for cell in run.cells
        for output in cell.get('outputs', [])
        if 'image/png' in output.get('data', {})
    ]
    assert len(pictures) == 6
