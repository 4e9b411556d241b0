"""Random weights for tests."""

import torch


def randomise(model: torch.nn.Module) -> None:
    """Randomise all weights and statistics, so that no bias is 0 and no scale is 1."""
    generator = torch.Generator().manual_seed(5)
    for name, value in model.state_dict().items():
        if not value.is_floating_point():
            continue
        noise = torch.randn(value.shape, generator=generator)
        if name.endswith('running_var'):
            value.copy_(0.5 + noise.abs())
        elif name.endswith('relative_position_bias_table'):
            value.copy_(0.5 * noise)
        elif value.ndim > 1:
            value.copy_(noise / value[0].numel() ** 0.5)
        elif name.endswith('weight'):
            value.copy_(1 + 0.2 * noise)
        else:
            value.copy_(0.1 * noise)
