"""Writing ONNX and OpenVINO files.

PyTorch has two exporters. The one that follows a run of the network ('trace') takes seconds; the
one built on torch.export ('dynamo') takes minutes for the large networks, needs the package
onnxscript, and gives files that run no faster (docs/export.md has the figures). The first is the
default for as long as PyTorch has it.
"""

import contextlib
import hashlib
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

from ..errors import ConfigError, UserError
from ..inference import digest
from ..inference.description import KEY, Description
from ..inference.torch_network import TorchNetwork
from ..version import __version__
from .graph import DTYPES, PoseGraph

EXPORTERS = ('trace', 'dynamo')
PRECISIONS = ('float32', 'float16', 'bfloat16')
OPSET = 17  # the oldest that has LayerNormalization; read by onnxruntime since 1.12
NEEDS = {
    'onnx': 'pip install onnx',
    'onnxscript': 'pip install onnxscript',
    'openvino': 'pip install openvino',
}


def write(
    network: TorchNetwork,
    checkpoint: str | Path,
    path: str | Path,
    normalise: bool = True,
    decode: bool = True,
    precision: str = 'float32',
    exporter: str = 'trace',
) -> Description:
    """Export a network; nothing but the finished file ever has the name `path`.

    Args:
        network: made with `fuse=False` on the CPU; its flip test is exported, too.
        checkpoint: of its weights, for the description.
        path: `.onnx`, or `.xml` (beside which OpenVINO's weights lie in a `.bin`).
        normalise, decode: see `PoseGraph`.
        precision: 'float16' halves the file: an ONNX network computes in it, OpenVINO stores in it.
            'bfloat16' (`.xml` only) is computed by CPUs that know it.
        exporter: 'trace' or 'dynamo'.

    Returns:
        What the file says of itself.

    Raises:
        ConfigError: a combination that does not exist. UserError: the file cannot be written.
        ImportError: a package is missing; says how to install it.
    """
    path = Path(path)
    _check(path, precision, exporter)
    to_openvino = path.suffix == '.xml'
    # bfloat16 is OpenVINO's to compute in, from float32. Its own compression to float16 would round
    # the constants of normalisation and decoding, too: three times as many poses would differ.
    graph = PoseGraph(network, normalise, decode, DTYPES.get(precision, torch.float32))
    description = describe(network, graph, checkpoint, precision)
    with _written(path) as folder:
        onnx_file = folder / (path.stem + '.onnx')
        _to_onnx(graph, network.input_size, onnx_file, exporter)
        if to_openvino:
            _to_openvino(onnx_file, folder / path.name, description)
            onnx_file.unlink()
        else:
            _note(onnx_file, description)
        digest.seal(folder / path.name)
    return description


def describe(
    network: TorchNetwork, graph: PoseGraph, checkpoint: str | Path, precision: str
) -> Description:
    """What the exported file will say of itself."""
    skeleton = network.skeleton
    codec = dict(network.cfg.model.head.decoder.items())
    return Description(
        config=network.name,
        checkpoint=Path(checkpoint).name,
        sha256=_sha256(checkpoint),
        version=__version__,
        created=time.strftime('%Y-%m-%d'),
        input_size=network.input_size,
        padding=network.padding,
        udp=network.udp,
        mean=tuple(graph.mean.tolist()),
        std=tuple(graph.std.tolist()),
        rgb=graph.rgb,
        normalise=graph.normalise,
        decode=graph.decode,
        codec=codec,
        flip_test=graph.flip_test,
        precision=precision,
        keypoints=skeleton.names,
        links=skeleton.links,
        flip_indices=skeleton.flip_indices,
    )


def example(graph: PoseGraph, input_size: tuple[int, int], count: int = 2) -> torch.Tensor:
    """Crops of noise as the graph wants them."""
    w, h = input_size
    noise = torch.randint(0, 256, (count, h, w, 3), generator=torch.Generator().manual_seed(0))
    if graph.normalise:
        return noise.to(torch.uint8)
    return (noise.permute(0, 3, 1, 2).float() - 128) / 64


def _check(path: Path, precision: str, exporter: str) -> None:
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
    for name in needed:
        if importlib.util.find_spec(name) is None:
            raise ImportError(f'export to {path.suffix} needs the package {name}: {NEEDS[name]}')


def _to_onnx(graph: PoseGraph, input_size: tuple[int, int], path: Path, exporter: str) -> None:
    outputs = ['keypoints', 'scores'] if graph.decode else ['heatmaps']
    images = example(graph, input_size)
    settings = dict(input_names=['images'], output_names=outputs)
    with torch.no_grad(), _quiet():
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


def _note(path: Path, description: Description) -> None:
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
def _written(path: Path) -> Iterator[Path]:
    """A folder beside `path`; what lies in it at the end takes its place."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f'.{path.stem}-') as folder:
            yield Path(folder)
            # The weights before the file that names them.
            for made in sorted(Path(folder).iterdir()):
                os.replace(made, path.parent / made.name)
    except OSError as error:
        raise UserError(f"'{path}' cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' remarks on sizes that are constant, and on the future."""
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


def _sha256(path: str | Path) -> str:
    if not Path(path).is_file():
        return ''  # an address
    sha256 = hashlib.sha256()
    digest.add_file(sha256, Path(path))
    return sha256.hexdigest()
