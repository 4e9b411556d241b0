"""Writing ONNX and OpenVINO files.

PyTorch has two exporters. The tracing exporter ('trace') takes seconds. The one built on
torch.export ('dynamo') takes minutes for large networks, needs onnxscript, and its files run no
faster (figures in docs/export.md). The default is 'trace' as long as PyTorch supports it.
"""

import contextlib
import importlib.util
import io
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from ..checkpoint.files import local_path
from ..errors import ConfigError, UserError
from ..inference import digest
from ..inference.description import KEY, Description
from ..inference.torch_network import TorchNetwork
from ..version import __version__
from .graph import DTYPES, PoseGraph

EXPORTERS = ('trace', 'dynamo')
PRECISIONS = ('float32', 'float16', 'bfloat16')  # of `write`; `quantization` writes int8
OPSET = 17  # the first with LayerNormalization; supported since onnxruntime 1.12


def write(
    network: TorchNetwork,
    checkpoint: str | Path,
    path: str | Path,
    normalise: bool = True,
    decode: bool = True,
    precision: str = 'float32',
    exporter: str = 'trace',
) -> Description:
    """Export a network atomically.

    Args:
        network: created with `fuse=False` on the CPU; its flip test is exported, too.
        checkpoint: file of its weights, for the description.
        path: `.onnx` or `.xml` (OpenVINO, with its weights in a `.bin` beside it).
        normalise: see `PoseGraph`.
        decode: see `PoseGraph`.
        precision: 'float32'; 'float16', which halves the file (ONNX also computes in it, OpenVINO
            only stores in it); or 'bfloat16' (`.xml` only), for CPUs that compute in it.
        exporter: 'trace' or 'dynamo'.

    Returns:
        Description in the file's metadata.

    Raises:
        ConfigError: unsupported combination of arguments.
        UserError: the file cannot be written.
        ImportError: a package is missing; names the package to install.
    """
    path = Path(path)
    check(path, precision, exporter)
    to_openvino = path.suffix == '.xml'
    # OpenVINO converts float32 to bfloat16 itself. Its own compression to float16 would also round
    # the constants of normalization and decoding: three times as many poses would differ.
    graph = PoseGraph(network, normalise, decode, DTYPES.get(precision, torch.float32))
    description = describe(network, graph, checkpoint, precision)
    with replacing_files(path) as folder:
        onnx_file = folder / (path.stem + '.onnx')
        to_onnx(graph, network.input_size, onnx_file, exporter)
        if to_openvino:
            _to_openvino(onnx_file, folder / path.name, description)
            onnx_file.unlink()
        else:
            add_metadata(onnx_file, description)
        digest.seal(folder / path.name)
    return description


def describe(
    network: TorchNetwork,
    graph: PoseGraph,
    checkpoint: str | Path,
    precision: str,
    quantization: dict | None = None,
) -> Description:
    """Create the description of an exported file."""
    skeleton = network.skeleton
    codec = dict(network.cfg.model.head.decoder.items())
    return Description(
        config=network.name,
        checkpoint=Path(checkpoint).name,
        sha256=digest.sha256(local_path(str(checkpoint))),
        version=__version__,
        created=time.strftime('%Y-%m-%d'),
        input_size=network.input_size,
        padding=network.padding,
        udp=network.udp,
        mean=_per_channel(graph.preprocessor, 'mean', 0.0),
        std=_per_channel(graph.preprocessor, 'std', 1.0),
        rgb=bool(graph.preprocessor._channel_conversion),
        normalise=graph.normalise,
        decode=graph.decode,
        codec=codec,
        flip_test=graph.flip_test,
        precision=precision,
        keypoints=skeleton.names,
        links=skeleton.links,
        flip_indices=skeleton.flip_indices,
        quantization=quantization,
    )


def _per_channel(preprocessor: torch.nn.Module, name: str, default: float) -> tuple[float, ...]:
    values = getattr(preprocessor, name, torch.tensor(default))  # without normalization: none
    return tuple(values.float().flatten().expand(3).tolist())


def example(graph: PoseGraph, input_size: tuple[int, int], count: int = 2) -> torch.Tensor:
    """Create `count` crops of noise as input of the graph."""
    w, h = input_size
    noise = torch.randint(0, 256, (count, h, w, 3), generator=torch.Generator().manual_seed(0))
    if graph.normalise:
        return noise.to(torch.uint8)
    return (noise.permute(0, 3, 1, 2).float() - 128) / 64


def check(path: Path, precision: str, exporter: str) -> None:
    """Raise a `ConfigError` or `ImportError` for what cannot be exported."""
    if path.suffix not in ('.onnx', '.xml'):
        raise ConfigError(f"'{path}': the name must end in .onnx or .xml (OpenVINO)")
    if precision not in PRECISIONS:
        raise ConfigError(f'precision={precision!r} is not one of {", ".join(PRECISIONS)}')
    if exporter not in EXPORTERS:
        raise ConfigError(f'exporter={exporter!r} is not one of {", ".join(EXPORTERS)}')
    if precision == 'bfloat16' and path.suffix == '.onnx':
        raise ConfigError(
            f"'{path}': onnxruntime has no convolutions in bfloat16; export to .xml (OpenVINO), or "
            'with precision float16'
        )
    needed = ['onnx']
    needed += ['onnxscript'] if exporter == 'dynamo' else []
    needed += ['openvino'] if path.suffix == '.xml' else []
    require(f'export to {path.suffix}', *needed)


def require(what: str, *packages: str) -> None:
    """Raise an `ImportError` that names the first of these packages that is not installed.

    Args:
        what: what needs them, for the message.
        packages: names.
    """
    for name in packages:
        if importlib.util.find_spec(name) is None:
            raise ImportError(f'{what} needs the package {name}: pip install {name}')


def to_onnx(graph: PoseGraph, input_size: tuple[int, int], path: Path, exporter: str) -> None:
    """Write the graph as ONNX, without metadata."""
    outputs = ['keypoints', 'scores'] if graph.decode else ['heatmaps']
    images = example(graph, input_size)
    settings = dict(input_names=['images'], output_names=outputs)
    with torch.no_grad(), quiet():
        if exporter == 'dynamo':
            axes = ({0: torch.export.Dim('batch', min=1)},)
            torch.onnx.export(
                graph, (images,), path, dynamo=True, dynamic_shapes=axes, external_data=False,
                verbose=False, **settings,
            )  # fmt: skip
        else:
            axes = {name: {0: 'batch'} for name in ('images', *outputs)}
            torch.onnx.export(
                graph, (images,), str(path), dynamo=False, opset_version=OPSET, dynamic_axes=axes,
                **settings,
            )  # fmt: skip


def add_metadata(path: Path, description: Description) -> None:
    """Write the description into an ONNX file."""
    import onnx

    model = onnx.load(path)
    onnx.helper.set_model_props(
        model, {KEY: description.to_json(), digest.ENTRY: digest.PLACEHOLDER}
    )
    model.producer_name, model.producer_version = KEY, __version__
    onnx.save(model, path)


def _to_openvino(source: Path, path: Path, description: Description) -> None:
    import openvino

    model = openvino.Core().read_model(source)
    model.set_rt_info(description.to_json(), KEY)
    model.set_rt_info(digest.PLACEHOLDER, digest.ENTRY)
    openvino.save_model(model, path, compress_to_fp16=False)


@contextlib.contextmanager
def replacing_files(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success move its files there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f'.{path.stem}-') as folder:
            yield Path(folder)
            # Sorted: the weights (.bin) before the network (.xml) that refers to them.
            for file in sorted(Path(folder).iterdir()):
                os.replace(file, path.parent / file.name)
    except UserError:  # a WeightsError is an OSError
        raise
    except OSError as error:
        raise UserError(f"'{path}' cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress the exporters' warnings about constant sizes and deprecations."""
    loggers = [logging.getLogger(name) for name in ('torch.onnx', 'onnxscript', 'onnx_ir')]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter('ignore')
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
