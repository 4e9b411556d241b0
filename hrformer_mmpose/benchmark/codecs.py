"""Codecs against MMPose's, side by side: `tools/benchmark_codecs.py`.

In each round every codec of both kinds is timed once, ours and MMPose's one after the other, on the
same heatmaps; what is reported are the medians of the rounds, and of the rounds' ratios.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import mmpose.codecs
import numpy as np
import torch

from ..codecs import MSRAHeatmap, UDPHeatmap
from .timing import device_of

SIZES = {'256x192': ((192, 256), 2, 11), '384x288': ((288, 384), 3, 17)}
KINDS = ('msra', 'dark', 'udp', 'combined')  # combined: UDP's disc and offsets


@dataclass(frozen=True)
class CodecOptions:
    """Options of `benchmark`.

    Attributes:
        batch_size: number of persons in a batch.
        rounds: number of timed rounds.
        threads: number of CPU threads.
        device: device of this package's decoding; MMPose's runs on the CPU.
        forward: also time HRFormer-B's forward pass.
    """

    batch_size: int
    rounds: int
    threads: int
    device: str
    forward: bool


def benchmark(args: CodecOptions) -> dict:
    """Time the codecs and print a table.

    Returns:
        `rows` of the table.
    """
    device_of(args.device)
    torch.set_num_threads(args.threads)
    print(f'batch {args.batch_size}, 17 keypoints, {args.threads} threads, {args.rounds} rounds')
    print(f'{"":<24}{"ms a person":>22}{"":>22}')
    print(f'{"":<24}{"MMPose":>10}{"here":>12}{"ratio":>10}{"(lowest to highest)":>22}')
    rows = [row for size in SIZES for kind in KINDS for row in _rows(size, kind, args)]
    if args.forward:
        rows += [_forward(size, args) for size in SIZES]
    return dict(rows=rows)


def pair(kind: str, size: str, sigma: float | None = None) -> tuple:
    """Our codec and MMPose's of the same arguments.

    Args:
        kind: one of `KINDS`.
        size: one of `SIZES`.
        sigma: other than the size's.
    """
    (w, h), usual, kernel = SIZES[size]
    options: dict = dict(input_size=(w, h), heatmap_size=(w // 4, h // 4), sigma=sigma or usual)
    if kind != 'msra':
        options['blur_kernel_size'] = kernel
    if kind == 'dark':
        options['unbiased'] = True
    if kind == 'combined':
        options['heatmap_type'] = 'combined'
    if kind in ('udp', 'combined'):
        return UDPHeatmap(**options), mmpose.codecs.UDPHeatmap(**options)
    return MSRAHeatmap(**options), mmpose.codecs.MSRAHeatmap(**options)


def _rows(size: str, kind: str, args: CodecOptions) -> list[dict]:
    ours, theirs = pair(kind, size)
    rng = np.random.default_rng(0)
    keypoints = rng.uniform(0, ours.input_size, (args.batch_size, 1, 17, 2)).astype(np.float32)
    visible = np.ones((1, 17), dtype=np.float32)
    maps = np.stack([theirs.encode(one, visible)['heatmaps'] for one in keypoints])
    maps += rng.normal(0, 0.02, maps.shape).astype(np.float32)
    batch = torch.from_numpy(maps).to(args.device)

    def encode(codec):
        for one in keypoints:
            codec.encode(one, visible)

    def ours_decode():
        for part in ours.batch_decode(batch):
            part.cpu()  # and wait for it

    def theirs_decode():
        for one in maps:
            theirs.decode(one)

    timed = {
        'decode': (ours_decode, theirs_decode),
        'encode': (lambda: encode(ours), lambda: encode(theirs)),
    }
    return [_row(f'{size} {kind} {what}', *both, args) for what, both in timed.items()]


def _row(name: str, ours: Callable, theirs: Callable, args: CodecOptions) -> dict:
    ours(), theirs()
    # As often as takes about as long as MMPose's: a single pass is too short to time.
    rounds = [(_milliseconds(ours, 10), _milliseconds(theirs)) for _ in range(args.rounds)]
    a, b = (median(times) / args.batch_size for times in zip(*rounds, strict=True))
    ratios = sorted(slow / fast for fast, slow in rounds)
    print(
        f'{name:<24}{b:10.3f}{a:12.4f}{median(ratios):10.1f}'
        f'{f"({ratios[0]:.1f} to {ratios[-1]:.1f})":>22}'
    )
    return dict(name=name, ours_ms=a, mmpose_ms=b, ratios=ratios)


def _forward(size: str, args: CodecOptions) -> dict:
    """HRFormer-B's forward pass, in float16 on CUDA, to compare the decoding with."""
    from ..backbones import HRFormer

    (w, h), _, _ = SIZES[size]
    model = HRFormer(arch='base').eval().to(args.device)
    image = torch.rand(args.batch_size, 3, h, w, device=args.device)

    def forward():
        with torch.no_grad(), torch.autocast(args.device, enabled=args.device != 'cpu'):
            model(image)[0].sum().item()

    forward()
    per_person = median(_milliseconds(forward) for _ in range(3)) / args.batch_size
    print(f'{f"{size} HRFormer-B forward":<34}{per_person:12.4f}')
    return dict(name=f'{size} HRFormer-B forward', ours_ms=per_person)


def _milliseconds(function: Callable, repeats: int = 1) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        function()
    return 1e3 * (time.perf_counter() - start) / repeats
