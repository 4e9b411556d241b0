"""Weights from any origin, and files that a crash leaves whole.

A file's way into a network: `files.read` (safe: plain data or nothing) -> `files.weights_in` (out
of whatever wraps them) -> `matching.match` (`state_dict_adapter.to_mmpose`, compared with what the
network has) -> the network's `load_state_dict`, which is called only when everything fits.

Needs PyTorch and NumPy only; what belongs to MMEngine's runner is in `engine/runner.py`.
"""

from .files import load_weights, save_weights
from .matching import load_pretrained, match
from .state_dict_adapter import architecture, origin, to_mmpose, to_official

__all__ = [
    'architecture',
    'load_pretrained',
    'load_weights',
    'match',
    'origin',
    'save_weights',
    'to_mmpose',
    'to_official',
]
