"""`--compile`: PyTorch's compiler on a network's repeated parts, or one line why not.

The attention and the FFN of the transformer blocks are compiled, not the whole network: a graph for
each width serves all blocks of that width, which takes a minute where the whole network of
HRFormer-S took eight, and the state dict keeps its names. Sizes are constants of a graph; another
batch or image size compiles again.
"""

import torch
from mmengine.logging import MMLogger
from torch import nn

from ..layers import CrossFFN, LocalWindowSelfAttention
from .inference import FusedBlock

PARTS = (LocalWindowSelfAttention, CrossFFN, FusedBlock)
# Graphs of one function: widths x training and evaluation x batch sizes. PyTorch's default is 8.
GRAPHS = 64


def compile_network(network: nn.Module) -> nn.Module:
    """Compile a network in place, where the machine can; log one line either way.

    Args:
        network: a backbone; one that has none of the parts above is compiled whole.

    Returns:
        `network`.
    """
    logger = MMLogger.get_current_instance()
    device = next(network.parameters(), next(network.buffers(), torch.zeros(()))).device
    if (reason := _lacking(device)) is not None:
        logger.warning(f'--compile has no effect: {reason}')
        return network
    _raise_limit()
    parts = [module for module in network.modules() if isinstance(module, PARTS)]
    for module in parts or [network]:
        module.compile(dynamic=False, fullgraph=bool(parts))
    logger.info(
        f'compiling {len(parts) or 1} parts of {type(network).__name__} with the first batch of '
        'each size, which takes minutes'
    )
    return network


def _lacking(device: torch.device) -> str | None:
    """What the compiler misses on this machine: tried, not guessed."""
    try:
        torch.compile(lambda x: (x + 1).relu())(torch.zeros(8, device=device))
    except Exception as error:  # a missing compiler shows itself in many ways
        lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
        return f"PyTorch's compiler does not run here ({lines[0] if lines else error!r})"
    return None


def _raise_limit() -> None:
    config = torch._dynamo.config
    name = 'recompile_limit' if hasattr(config, 'recompile_limit') else 'cache_size_limit'
    setattr(config, name, max(getattr(config, name), GRAPHS))
