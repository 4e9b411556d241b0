"""Processes and threads of the comparisons of data paths."""

import multiprocessing
from collections.abc import Callable

import cv2
import torch
from mmengine.registry import init_default_scope

SCOPES = ('mmpose', 'hrformer_mmpose')


def use_one_thread() -> None:
    """Compute with one thread, as a loading worker does, and find MMPose's classes by name."""
    init_default_scope('mmpose')
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def in_own_process(function: Callable, *arguments):
    """Return the result of a function that runs in a new process."""
    context = multiprocessing.get_context('spawn')
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, function, arguments))
    process.start()
    sender.close()
    try:
        result = receiver.recv()
    except EOFError:
        raise RuntimeError(f'{function.__name__}{arguments} failed') from None
    process.join()
    return result


def _send(sender, function: Callable, arguments: tuple) -> None:
    sender.send(function(*arguments))
