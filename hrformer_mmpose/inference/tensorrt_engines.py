"""Options of onnxruntime's TensorRT provider, and the folder of its engines.

TensorRT compiles a network for minutes. The result, an engine, runs on the kind of GPU and with the
versions that compiled it. Its folder, in the user's cache folder, is therefore named after all of
these and the file's hash: an engine of another version is never loaded. An engine is code; a folder
that other users can write to is not used.
"""

import ctypes
import hashlib
import logging
import os
import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from ..cache import cache_root, is_private
from ..errors import ConfigError
from . import digest

logger = logging.getLogger('hrformer_mmpose')

BATCHES = 1, 32  # of the engine: smallest and most frequent batch
LARGEST_BATCH = 64
ONNXRUNTIME = ('onnxruntime-gpu', 'onnxruntime')
PACKAGES = ('tensorrt', 'tensorrt-cu13', 'tensorrt-cu12')
LIBRARIES = ('libnvinfer.so.11', 'libnvinfer.so.10', 'libnvinfer.so.8', 'nvinfer_10.dll')
UNKNOWN = 'unknown'  # version of a TensorRT that is not installed
MAJOR, MINOR = 75, 76  # CUDA's numbers of the attribute "compute capability"


def options(
    path: str | Path, precision: str, input_name: str, shape: Sequence[str], number: int
) -> dict:
    """Return the provider's options for a network.

    Args:
        path: `.onnx` file.
        precision: of the file, see `Description`.
        input_name: name of the network's input.
        shape: of the input, without the batch.
        number: of the GPU.

    Raises:
        ConfigError: there is no such GPU.
    """
    sizes = [f'{input_name}:{"x".join([str(n), *shape])}' for n in (*BATCHES, LARGEST_BATCH)]
    values = dict(
        device_id=number,
        trt_fp16_enable=precision == 'float16',
        trt_int8_enable=precision == 'int8',
        trt_profile_min_shapes=sizes[0],
        trt_profile_opt_shapes=sizes[1],
        trt_profile_max_shapes=sizes[2],
    )
    folder = engine_folder(path, number)
    if folder is None:
        return values
    return values | dict(
        trt_engine_cache_enable=True,
        trt_engine_cache_path=str(folder),
        trt_timing_cache_enable=True,
        trt_timing_cache_path=str(folder),
    )


def engine_folder(path: str | Path, number: int = 0) -> Path | None:
    """Create the folder of a network's engines; None, with a line in the log, if that fails.

    Raises:
        ConfigError: there is no such GPU.
    """
    name = folder_name(path, number)
    try:
        folder = _private_folder(cache_root() / 'hrformer_mmpose' / 'tensorrt' / name)
    except OSError as error:
        logger.warning(
            f'TensorRT compiles the network anew each time (minutes): {_reason(error)}; let '
            'XDG_CACHE_HOME name a folder of your own'
        )
        return None
    if not any(folder.glob('*.engine')):
        others = sorted(folder.parent.glob(f'{name.partition("-")[0]}-*/*.engine'))
        reason = f" ('{others[0].parent.name}' is not used)" if others else ''
        logger.warning(f"TensorRT compiles '{path}' into '{folder}', for minutes, once{reason}")
    return folder


def folder_name(path: str | Path, number: int = 0) -> str:
    """Return a name that depends on the file, the GPU and the versions.

    Raises:
        ConfigError: there is no such GPU.
    """
    hashed = hashlib.blake2b(digest_size=8)
    digest.add_file(hashed, Path(path))
    gpu, capability = gpu_name(number)
    versions = f'tensorrt{version()}', f'onnxruntime{metadata_version(ONNXRUNTIME)}'
    return '-'.join(_plain(part) for part in (hashed.hexdigest(), gpu, capability, *versions))


def gpu_name(number: int) -> tuple[str, str]:
    """Return name and compute capability of a GPU, e.g. 'NVIDIA H100 80GB HBM3' and 'sm90'.

    Raises:
        ConfigError: there is no such GPU.
    """
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    try:
        cuda = ctypes.CDLL('nvcuda.dll' if os.name == 'nt' else 'libcuda.so.1')
        error = cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(device), number)
    except OSError:
        error, reason = 1, 'the driver is missing'
    else:
        reason = f'CUDA error {error}'
    if error:
        raise ConfigError(f'device tensorrt:{number}: no such NVIDIA GPU here ({reason})')
    cuda.cuDeviceGetName(name, len(name), device)
    capability = ''
    for attribute in (MAJOR, MINOR):
        value = ctypes.c_int()
        cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        capability += str(value.value)
    return name.value.decode(errors='replace'), f'sm{capability}'


def version() -> str:
    """Return the version of the installed TensorRT, or `UNKNOWN`."""
    if installed := metadata_version(PACKAGES):
        return installed
    for library in LIBRARIES:
        try:
            return str(ctypes.CDLL(library).getInferLibVersion())
        except (OSError, AttributeError):
            continue
    return UNKNOWN


def metadata_version(packages: Sequence[str]) -> str:
    """Return the version of the first of these packages that is installed; '' if none is."""
    for package in packages:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return ''


def _plain(text: str) -> str:
    """Return text that can be part of a file name, without the '-' that joins the parts."""
    return re.sub(r'[^A-Za-z0-9.]+', '_', text)


def _private_folder(folder: Path) -> Path:
    """Create a folder that only this user can write to.

    Raises:
        OSError: it cannot be created or written to, or others can write to it.
    """
    levels = (folder.parent.parent, folder.parent, folder)
    levels[0].parent.mkdir(parents=True, exist_ok=True)
    for path in levels:
        path.mkdir(mode=0o700, exist_ok=True)
        if not is_private(path.stat()):
            raise PermissionError(0, 'belongs to another user or can be written by others', path)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(0, 'cannot be written', folder)
    return folder


def _reason(error: OSError) -> str:
    return f"'{error.filename}': {error.strerror}" if error.filename else str(error)
