"""Random numbers that depend on where training is, not on what happened before.

Before each training iteration every generator of a process starts from (seed, process, iteration);
while a training sample is made, they start from (seed, epoch, sample). So nothing has to be saved
to go on exactly after a crash, and a sample's augmentation does not depend on the number of worker
or training processes.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch.utils.data import get_worker_info


def start_from(*entropy: int) -> None:
    """Start the generators of Python, NumPy and PyTorch (CUDA's too, once in use) anew.

    Args:
        entropy: non-negative numbers that name the place; other numbers, other streams.
    """
    words = np.random.SeedSequence(entropy).generate_state(3).tolist()
    random.seed(words[0])
    np.random.seed(words[1])
    # torch.manual_seed would also note, for CUDA, a seed and a stack trace where it is not in use.
    torch.default_generator.manual_seed(words[2])
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(words[2])


@contextmanager
def drawn_from(*entropy: int) -> Iterator[None]:
    """`start_from` for a while; then the generators on the CPU go on where they were.

    In a loading worker they do not: each sample starts them anew, and saving their states would
    cost more than the augmentation.
    """
    if get_worker_info() is not None:
        start_from(*entropy)
        yield
        return
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    start_from(*entropy)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
