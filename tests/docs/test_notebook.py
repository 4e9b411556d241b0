"""The notebook is stored without outputs; `test_running.py` runs it as the pages say."""

import json

from tests.conftest import ROOT

NOTEBOOK = ROOT / 'docs/notebook.ipynb'


def test_it_is_stored_without_outputs():
    cells = json.loads(NOTEBOOK.read_text(encoding='utf-8'))['cells']
    outputs = [cell['outputs'] for cell in cells if cell['cell_type'] == 'code']
    assert len(outputs) > 8
    assert outputs == [[]] * len(outputs)
