"""Random numbers as a function of the position in training, independent of its history.

Before each training iteration, every generator of a process is seeded with (seed, process,
iteration); for each training sample, with (seed, epoch, sample). Exact resuming therefore needs no
saved state, and a sample's augmentation does not depend on the number of worker or training
processes.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch.utils.data import get_worker_info


def seed_all(*entropy: int) -> None:
    """Seed the generators of Python, NumPy and PyTorch (including CUDA's, if initialised).

    Args:
        entropy: non-negative numbers; different numbers give different streams.
    """
    words = np.random.SeedSequence(entropy).generate_state(3).tolist()
    random.seed(words[0])
    np.random.seed(words[1])
    # torch.manual_seed would also queue a seed and a stack trace for an uninitialised CUDA.
    torch.default_generator.manual_seed(words[2])
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(words[2])


@contextmanager
def temporary_seed(*entropy: int) -> Iterator[None]:
    """Call `seed_all` and restore the generators on the CPU on exit.

    In a loading worker they are not restored: each sample seeds them again, and saving their states
    would cost more than the augmentation.
    """
    if get_worker_info() is not None:
        seed_all(*entropy)
        yield
        return
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seed_all(*entropy)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
