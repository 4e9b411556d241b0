"""Key names of HRFormer files: the authors' and MMPose's.

The authors' code projects query, key and value by three layers where MMPose's has one, and calls
the FFN `mlp`. Nothing else differs in the backbone.
"""

import re

import torch

RENAMED = ((r'\.mlp\.', '.ffn.'), (r'\.attn\.attn\.out_proj\.', '.attn.attn.proj.'))


def to_mmpose(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The authors' names -> MMPose's; keys that are MMPose's already stay.

    Args:
        state_dict: of a backbone, or of a whole model with any prefix. It is not modified.

    Returns:
        A new dict; query, key and value projections are concatenated in that order.
    """
    converted = {}
    for key, value in state_dict.items():
        if re.search(r'\.[kv]_proj\.(weight|bias)$', key):
            continue
        if '.q_proj.' in key:
            parts = [state_dict[key.replace('.q_proj.', f'.{part}_proj.')] for part in 'qkv']
            key, value = key.replace('.q_proj.', '.qkv.'), torch.cat(parts)
        for old, new in RENAMED:
            key = re.sub(old, new, key)
        converted[key] = value
    return converted
