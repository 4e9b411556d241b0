"""A whole training iteration and a whole test of a config, part by part: what bounds them?

The parts are timed where they run: the data loader's `next`, the backbone's forward passes, the
head's decoding, the loss's backward pass, the optimizer's step, the metric. What is left (transfer,
preprocessing, head, flipping, bookkeeping) is 'the rest'.
"""

import time
from collections.abc import Callable
from itertools import islice
from statistics import median

import torch
from mmengine.config import Config
from mmengine.runner import Runner

from .. import zoo

WARM_UP = 2


class _Clock:
    """Adds up how long wrapped functions take."""

    def __init__(self, device: torch.device):
        self.device = device
        self.parts: dict[str, float] = {}

    def wrap(self, owner: object, method: str, part: str) -> None:
        function = getattr(owner, method)
        setattr(owner, method, lambda *args, **kwargs: self.time(part, function, *args, **kwargs))

    def time(self, part: str, function: Callable, *args, **kwargs):
        self._wait()
        start = time.perf_counter()
        result = function(*args, **kwargs)
        self._wait()
        self.parts[part] = self.parts.get(part, 0.0) + time.perf_counter() - start
        return result

    def _wait(self) -> None:
        if self.device.type == 'cuda':
            torch.cuda.synchronize()


def benchmark(
    config: str,
    options: dict,
    work_dir: str,
    iterations: int,
    build_runner: Callable[[Config], Runner],
) -> dict:
    """Time `iterations` of training and of testing; print and return seconds by part.

    Args:
        config: path or name of a config.
        options: overrides of its entries.
        work_dir: folder for MMEngine's log.
        iterations: number of timed iterations.
        build_runner: builds the runner of a config.
    """
    results = {}
    for what, run in (('training', _train), ('test', _test)):
        cfg = zoo.read_config(config)
        cfg.work_dir, cfg.launcher = work_dir, 'none'
        cfg.log_level = 'WARNING'
        cfg.model.backbone.init_cfg = None
        zoo.merge_options(cfg, options)
        rounds = run(build_runner(cfg), iterations)
        results[what] = _summary(what, cfg, rounds)
    return results


def _train(runner: Runner, iterations: int) -> list[dict]:
    loop = runner.build_train_loop(runner._train_loop)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.optim_wrapper.initialize_count_status(runner.model, 0, iterations)
    model = runner.model.train()
    clock = _Clock(next(model.parameters()).device)
    clock.wrap(model.backbone, 'forward', 'forward pass')
    clock.wrap(runner.optim_wrapper, 'backward', 'backward pass')
    clock.wrap(runner.optim_wrapper, 'step', 'optimizer')
    step = lambda batch: model.train_step(batch, optim_wrapper=runner.optim_wrapper)  # noqa: E731
    return _rounds(clock, loop.dataloader, step, iterations)


def _test(runner: Runner, iterations: int) -> list[dict]:
    loader = runner.build_dataloader(runner._test_dataloader)
    evaluator = runner.build_evaluator(runner._test_evaluator)
    evaluator.dataset_meta = loader.dataset.metainfo
    model = runner.model.eval()
    clock = _Clock(next(model.parameters()).device)
    if hasattr(model.backbone, 'fuse_for_inference'):
        model.backbone.forward = model.backbone.fuse_for_inference().forward
    clock.wrap(model.backbone, 'forward', 'forward passes')
    clock.wrap(model.head, 'decode', 'decoding')
    clock.wrap(evaluator, 'process', 'metric')

    def step(batch: dict) -> None:
        with torch.no_grad():
            evaluator.process(model.test_step(batch), batch)

    return _rounds(clock, loader, step, iterations)


def _rounds(clock: _Clock, loader, step: Callable, iterations: int) -> list[dict]:
    """Seconds by part of each iteration after the warm-up."""
    rounds: list[dict] = []
    batches = iter(loader)
    for index in range(WARM_UP + iterations):
        clock.parts = {}
        start = time.perf_counter()
        batch = clock.time('waiting for data', next, batches, None)
        if batch is None:  # a small data set starts over
            batches = iter(loader)
            clock.parts, start = {}, time.perf_counter()
            batch = clock.time('waiting for data', next, batches)
        step(batch)
        clock._wait()
        total = time.perf_counter() - start
        rest = total - sum(clock.parts.values())
        print(f'\r\x1b[K  iteration {index + 1} of {WARM_UP + iterations}', end='', flush=True)
        rounds.append({'whole iteration': total, **clock.parts, 'the rest': rest})
    print('\r\x1b[K', end='')
    return [*islice(rounds, WARM_UP, None)]


def _summary(what: str, cfg, rounds: list[dict]) -> dict:
    loader = cfg.train_dataloader if what == 'training' else cfg.test_dataloader
    batch = loader.batch_size
    print(
        f'{what}, batch {batch}, {loader.num_workers} loading workers, {len(rounds)} iterations: '
        'median ms'
    )
    medians = {part: median(one.get(part, 0.0) for one in rounds) for part in rounds[0]}
    whole = medians['whole iteration']
    for part, seconds in medians.items():
        print(f'  {part:<20}{1e3 * seconds:10.1f}{seconds / whole:8.0%}')
    bound = max((part for part in medians if part != 'whole iteration'), key=medians.__getitem__)
    print(f'  {batch / whole:.1f} persons a second; bounded by: {bound}')
    return dict(batch=batch, seconds=medians, bound=bound, iterations=len(rounds))
