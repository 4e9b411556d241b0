"""Small networks and the files that they would come in."""

import torch

from hrformer_mmpose.backbones import HRFormer
from hrformer_mmpose.checkpoint import to_official

ARCH = dict(
    channels=(4, 8, 8, 8), num_heads=(1, 2, 2, 2), num_modules=1, num_blocks=1, window_sizes=3
)


def tiny_hrformer(**options) -> HRFormer:
    """A network of a moment, with weights that are not its initial ones."""
    model = HRFormer(arch=options.pop('arch', ARCH), **options)
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if not value.is_floating_point():
                continue
            if key.endswith('relative_position_bias_table'):
                value.normal_()
            elif value.ndim < 2:
                value.uniform_(0.5, 1.5)
            elif value.ndim == 4:
                value.mul_(0.5)  # biases prevail, so that ReLUs let most values pass
            elif value.ndim == 2:
                value.mul_(10)  # attention that is felt
    return model.eval()


def official_weights(**options) -> dict[str, torch.Tensor]:
    """A backbone under the authors' names."""
    return to_official(tiny_hrformer(**options).state_dict())
