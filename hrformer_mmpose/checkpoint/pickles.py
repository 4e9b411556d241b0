"""Reading files of `torch.save` without letting them run code.

PyTorch's own restricted reader (`weights_only=True`) takes tensors and plain values. The files of
MMEngine's runner also hold logged values, and those of the authors' training a settings object;
`INERT` lets their names in, but what they become here is a record without behaviour. That reader
can be extended since PyTorch 2.6. Before, a file that it refuses and whose names are all on the
list is read by an unpickler that knows exactly these names.
"""

import importlib
import io
import pickle
import pickletools
import re
import types
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch

Names = dict[str, Any]


class History:
    """What is stored of MMEngine's `HistoryBuffer`: `_log_history`, `_count_history`, ..."""


class Settings(dict):
    """What is stored of a settings object (yacs' CfgNode, argparse's Namespace)."""

    def __setstate__(self, state: dict) -> None:
        self.update(state)


def _nothing(*_: Any) -> None:
    """Stands for `getattr`, by which a HistoryBuffer names four of its own methods."""


def _latin1(text: str, encoding: str = 'latin1') -> bytes:
    """Stands for `_codecs.encode`, by which Python 3 pickles bytes under protocol 2."""
    if encoding != 'latin1':
        raise pickle.UnpicklingError(f'the file asks for the codec {encoding!r}')
    return text.encode('latin1')


def _numpy_names() -> Names:
    # Either module name may stand in a file: it is that of the NumPy that wrote it.
    core = importlib.import_module(
        'numpy.core' if np.__version__.startswith('1.') else 'numpy._core'
    )
    functions = (core.multiarray._reconstruct, core.multiarray.scalar)
    names: Names = {
        f'{module}.multiarray.{function.__name__}': function
        for function in functions
        for module in ('numpy.core', 'numpy._core')
    }
    return {**names, 'numpy.ndarray': np.ndarray, 'numpy.dtype': np.dtype}


INERT: Names = {
    'mmengine.logging.history_buffer.HistoryBuffer': History,
    'builtins.getattr': _nothing,
    '__builtin__.getattr': _nothing,  # protocol 2 writes Python 2's name of the module
    'yacs.config.CfgNode': Settings,
    'argparse.Namespace': Settings,
    'collections.Counter': Counter,  # milestones of a schedule; PyTorch knows it since 2.5
    **_numpy_names(),
}
# What PyTorch's reader knows by itself; storages and data types besides.
_PLAIN: Names = {
    'collections.OrderedDict': OrderedDict,
    '_codecs.encode': _latin1,
    'torch.Size': torch.Size,
    'torch.device': torch.device,
    'torch.nn.parameter.Parameter': torch.nn.Parameter,
    **{
        f'torch._utils.{name}': getattr(torch._utils, name)
        for name in ('_rebuild_tensor', '_rebuild_tensor_v2', '_rebuild_parameter')
    },
}
_TYPES = re.compile(r'torch(\.storage)?\.(\w+Storage|b?float\d*|u?int\d*|bool|half|double|long)')
_DTYPES = {type(np.dtype(kind)) for kind in 'bhilqBHILQefd?U'}


def load(path: str | Path, mmap: bool = False) -> Any:
    """The file's content, tensors on the CPU.

    Args:
        path: a file of `torch.save`.
        mmap: map tensors into memory instead of reading them; for a look at what is there.

    Raises:
        pickle.UnpicklingError: the file holds something else than plain data.
        RuntimeError, EOFError, ...: the file is damaged.
    """
    options: dict = dict(map_location='cpu', weights_only=True, mmap=mmap)
    if hasattr(torch.serialization, 'safe_globals') and _can_rename():
        allowed = [*((obj, name) for name, obj in INERT.items()), History, Settings, *_DTYPES]
        with torch.serialization.safe_globals(allowed):
            return torch.load(path, **options)
    try:
        return torch.load(path, **options)
    except pickle.UnpicklingError:
        if unknown_names(path):
            raise
        options.update(weights_only=False, pickle_module=_restricted)
        return torch.load(path, **options)


def _can_rename() -> bool:
    """Since 2.6 an allowed object may stand for another name than its own."""
    return tuple(map(int, re.findall(r'\d+', torch.__version__)[:2])) >= (2, 6)


def unknown_names(path: str | Path) -> list[str]:
    """Names of code in the file that are not on the lists, without running any of it."""
    names = dict.fromkeys(name for stream in _streams(path) for name in _names(stream))
    return [name for name in names if not (_known(name) is not None or _TYPES.fullmatch(name))]


def _known(name: str) -> Any:
    return INERT.get(name, _PLAIN.get(name))


def _streams(path: str | Path) -> list[bytes]:
    if not zipfile.is_zipfile(path):
        return [Path(path).read_bytes()]
    with zipfile.ZipFile(path) as archive:
        return [archive.read(name) for name in archive.namelist() if name.endswith('.pkl')]


def _names(stream: bytes) -> list[str]:
    """'module.name' of every global that the pickles in `stream` look up."""
    found, texts, source = [], [], io.BytesIO(stream)
    try:
        while source.tell() < len(stream):  # the old format is several pickles in a row
            for code, argument, _ in pickletools.genops(source):
                if code.name in ('GLOBAL', 'INST'):
                    found.append(argument.replace(' ', '.'))
                elif code.name == 'STACK_GLOBAL':
                    found.append('.'.join(texts[-2:]))
                elif isinstance(argument, str):
                    texts.append(argument)
    except Exception:  # the storages of the old format, or damage: what follows is no pickle
        pass
    return found


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        known = _known(f'{module}.{name}')
        if known is None and not _TYPES.fullmatch(f'{module}.{name}'):
            raise pickle.UnpicklingError(f'the file asks for {module}.{name}')
        return super().find_class(module, name) if known is None else known


_restricted = types.ModuleType('restricted', 'pickle, for torch.load, with the names above.')
_restricted.Unpickler = _Unpickler
_restricted.load = lambda file, **options: _Unpickler(file, **options).load()
