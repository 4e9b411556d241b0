"""`--compile`: compile a network's repeated parts, or log one line why that is impossible.

Attention and FFN of the transformer blocks are compiled, not the whole network: all blocks of a
width share a graph. This takes a minute, compared to eight for the whole HRFormer-S, and the state
dict keeps its names. Sizes are constants of a graph: another batch or image size compiles again.
"""

import torch
from mmengine.logging import MMLogger
from torch import nn

from ..errors import first_line
from ..layers import CrossFFN, LocalWindowSelfAttention
from .inference import InferenceBlock

PARTS = (LocalWindowSelfAttention, CrossFFN, InferenceBlock)
# Graphs per function: widths x training and evaluation x batch sizes. PyTorch's default is 8.
MAX_GRAPHS = 64


def compile_network(network: nn.Module) -> nn.Module:
    """Compile a network in place if the machine can, and log one line in either case.

    Args:
        network: a backbone; one without any of `PARTS` is compiled as a whole.

    Returns:
        `network`.
    """
    logger = MMLogger.get_current_instance()
    device = next(network.parameters(), next(network.buffers(), torch.zeros(()))).device
    if (reason := _compiler_error(device)) is not None:
        logger.warning(f'--compile has no effect: {reason}')
        return network
    _raise_graph_limit()
    parts = [module for module in network.modules() if isinstance(module, PARTS)]
    for module in parts or [network]:
        module.compile(dynamic=False, fullgraph=bool(parts))
    logger.info(
        f'compiling {len(parts) or 1} parts of {type(network).__name__} with the first batch of '
        'each size, which takes minutes'
    )
    return network


def _compiler_error(device: torch.device) -> str | None:
    """Return why compiling a small function fails on this machine, or None."""
    try:
        torch.compile(lambda x: (x + 1).relu())(torch.zeros(8, device=device))
    except Exception as error:  # a missing compiler raises many types
        return f"PyTorch's compiler does not run here ({first_line(error)})"
    return None


def _raise_graph_limit() -> None:
    config = torch._dynamo.config
    name = 'recompile_limit' if hasattr(config, 'recompile_limit') else 'cache_size_limit'
    setattr(config, name, max(getattr(config, name), MAX_GRAPHS))
