"""Configs with entries lost, misspelt or of another value, trained for an epoch."""

import random
import sys
from pathlib import Path
from typing import Any

import torch

from hrformer_mmpose.checkpoint import load_weights
from hrformer_mmpose.cli import terminal, train
from hrformer_mmpose.zoo import read_config
from tests.fuzz.materials import Materials, fast_mmengine
from tests.fuzz.mutate import mutate_bytes, mutate_tree
from tests.fuzz.worker import run_command

VARIABLES = (
    'codec',
    'max_epochs',
    'train_pipeline',
    'val_pipeline',
    'data_root',
    'arch',
    'runner_type',
)


class Configs:
    """Configs that `tools/train.py` is started with."""

    name = 'configs'
    isolate = executes = True

    def __init__(self, materials: Materials):
        self.text = materials.config.read_text()
        tree = read_config(str(materials.config)).to_dict()
        tree['train_cfg'].update(max_epochs=1)
        self.tree = {key: value for key, value in tree.items() if key not in VARIABLES}

    def make(self, rng: random.Random, folder: Path) -> tuple[str, Any]:
        """A config file: entries changed, or the text."""
        path = folder / 'config.py'
        if rng.random() < 0.1:
            name, data = mutate_bytes(rng, self.text.encode())
            path.write_bytes(data)
            return f'text: {name}', path
        name, changed = mutate_tree(rng, self.tree)
        if not isinstance(changed, dict):
            changed = {'model': changed}
        lines = [
            f'{key} = {_code(value)}' for key, value in changed.items() if str(key).isidentifier()
        ]
        path.write_text('\n'.join(lines))
        return name, path

    def judge(self, given: Path) -> None:
        """The run ends with finite weights in a checkpoint, or with a line."""
        work_dir = given.parent / 'work'
        sys.argv = ['train.py', str(given), '--work-dir', str(work_dir)]
        with fast_mmengine():
            run_command(lambda: terminal.run(train.run, train.parser()))
        for path in work_dir.glob('*.pth'):
            weights = load_weights(path)
            bad = [key for key, value in weights.items() if not torch.isfinite(value).all()]
            assert not bad, 'weights that are not finite'


def _code(value: Any) -> str:
    """Python source of a value; repr() of nan and inf is none."""
    if isinstance(value, dict):
        return '{' + ', '.join(f'{_code(k)}: {_code(v)}' for k, v in value.items()) + '}'
    if isinstance(value, list):
        return '[' + ', '.join(map(_code, value)) + ']'
    if isinstance(value, tuple):
        return '(' + ''.join(_code(item) + ', ' for item in value) + ')'
    if isinstance(value, float):
        return f"float('{value!r}')"
    return repr(value)
