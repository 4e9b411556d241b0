"""Networks in all engines and precisions, as functions that compute a batch once.

A network of `engine_networks` -> exported files, which are reused -> a session of each engine -> a
function from crops to heatmaps, both in the CPU's memory.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import torch

from ..errors import ConfigError
from ..execution.cuda_graph import CudaGraphs
from ..export.layers import quantizable
from ..export.nncf_quantizer import NncfQuantizer
from ..export.onnx_quantizer import OnnxQuantizer
from ..inference.onnx_session import OnnxSession
from ..inference.openvino_session import OpenVinoSession
from . import engine_networks
from .engine_networks import SIZE
from .steps import DTYPES

TORCH, OPENVINO, ONNXRUNTIME, TENSORRT = 'PyTorch', 'OpenVINO', 'onnxruntime', 'TensorRT'

CALIBRATED_ON = 8  # crops of noise: that costs accuracy, not time
# Rounds. On GPUs the first one compiles and the second captures a CUDA graph.
WARM_UP = {'cpu': 1, 'cuda': 3}


class Engine(NamedTuple):
    """Library and precision: a row of the table."""

    library: str
    precision: str

    def __str__(self):
        return f'{self.library} {self.precision}'


ENGINES = {
    'cpu': (
        Engine(TORCH, 'float32'),
        Engine(TORCH, 'bfloat16'),
        Engine(OPENVINO, 'float32'),
        Engine(OPENVINO, 'bfloat16'),
        Engine(OPENVINO, 'int8'),
        Engine(ONNXRUNTIME, 'float32'),
        Engine(ONNXRUNTIME, 'int8'),
    ),
    'cuda': (
        Engine(TORCH, 'float32'),
        Engine(TORCH, 'float16'),
        Engine(ONNXRUNTIME, 'float32'),
        Engine(ONNXRUNTIME, 'float16'),
        Engine(TENSORRT, 'float16'),
    ),
}


def build(
    name: str,
    images: np.ndarray,
    engines: Sequence[Engine],
    folder: Path,
    threads: int,
    device: torch.device,
) -> dict[str, Callable]:
    """Return a function for each engine that runs a network once.

    Args:
        name: one of `engine_networks.NETWORKS`.
        images: normalized crops (N, 3, 256, 192), float32.
        engines: of `ENGINES`.
        folder: of the exported files.
        threads: number of CPU threads.
        device: a CPU or a GPU.

    Returns:
        Functions by engine. That of an engine which does not start raises the error.
    """
    steps: dict[str, Callable] = {}
    for engine in engines:
        if engine.library == TORCH:
            step = _torch_step(name, images, DTYPES[engine.precision], device)
        else:
            try:
                session = _session(engine, _file(name, engine, folder), threads, device)
            except (RuntimeError, ImportError) as error:
                step = _raising(error)
            else:
                step = _session_step(session, images)
        steps[str(engine)] = step
    return steps


def _torch_step(name: str, images: np.ndarray, dtype: torch.dtype, device: torch.device):
    poses = engine_networks.for_torch(engine_networks.network(name), dtype, device)
    crops = torch.from_numpy(images).contiguous(memory_format=torch.channels_last)
    is_half = device.type == 'cpu' and dtype is not torch.float32
    if device.type == 'cuda':
        crops, poses = crops.pin_memory(), CudaGraphs(poses)

    def step() -> None:
        with torch.inference_mode(), torch.autocast('cpu', torch.bfloat16, enabled=is_half):
            for output in poses(crops.to(device, non_blocking=True)):
                output.cpu()

    return step


def _session(engine: Engine, path: Path, threads: int, device: torch.device):
    if engine.library == OPENVINO:
        session = OpenVinoSession(path, threads)
        session.precision = engine.precision
        return session
    kind = 'tensorrt' if engine.library == TENSORRT else device.type
    return OnnxSession(path, threads, kind if device.index is None else f'{kind}:{device.index}')


def _session_step(session, images: np.ndarray) -> Callable:
    return lambda: session.run(images)


def _raising(error: Exception) -> Callable:
    def step() -> None:
        raise error

    return step


def _file(name: str, engine: Engine, folder: Path) -> Path:
    """Export a network for an engine, unless the file exists."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--folder '{folder}': {error.strerror}") from error
    if engine.precision == 'int8':
        return _quantized(name, engine, folder)
    # OpenVINO converts to bfloat16 itself.
    is_half = engine.precision == 'float16'
    path = folder / (f'{name}-float16.onnx' if is_half else f'{name}.onnx')
    if not path.exists():
        print(f'exporting {path.stem}')
        precision = 'float16' if is_half else 'float32'
        engine_networks.write_onnx(name, path, precision)
    return path


def _quantized(name: str, engine: Engine, folder: Path) -> Path:
    to_openvino = engine.library == OPENVINO
    path = folder / (f'{name}-int8.xml' if to_openvino else f'{name}-int8.onnx')
    if path.exists():
        return path
    source = _file(name, Engine(ONNXRUNTIME, 'float32'), folder)
    print(f'quantizing {name} for {engine.library}')
    h, w = SIZE
    noise = np.random.default_rng(1).normal(0, 1, (CALIBRATED_ON, 3, h, w)).astype(np.float32)
    _, products = quantizable(onnx.load(source))
    quantizer = NncfQuantizer if to_openvino else OnnxQuantizer
    quantizer(source, noise, products).save(path, {})
    return path
