"""Stand-ins for packages that `import mmpose` needs and a new machine lacks.

MMPose 1.3.2 imports packages that top-down heatmap models never call and that have no wheels for
every platform (mmdet, mmcv's operators, torchvision, xtcocotools). MMEngine 0.10.7 uses
`pkg_resources`, which setuptools 82 removed. `install()` adds an import hook that supplies
stand-ins where they are needed:

- A stand-in is visible only while a module listed in `GUESTS` is being imported, and only if the
  real package cannot be imported. For all other code, such as `has_mmdet` and
  `importlib.util.find_spec('torchvision')`, the package remains absent.
- The names that MMPose imports from it raise an `ImportError` on use, which says what to install.
  Two stand-ins are functional: pycocotools for xtcocotools, and `importlib.metadata` for the three
  functions of pkg_resources that MMEngine calls.
- MMEngine imports pkg_resources inside functions, so its stand-in remains visible. Other names of
  it raise an `ImportError` that names setuptools.
- Each stand-in is logged once, in one line, and listed by `supplied()`.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import logging
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

logger = logging.getLogger('hrformer_mmpose')


def _unavailable(package: str, name: str, install: str) -> type:
    """Create a class for imports, annotations and isinstance that raises ImportError on use."""

    def refuse(self, *args, **kwargs):
        raise ImportError(f'{package}.{name} needs the package {package.split(".")[0]}: {install}')

    return type(name, (), {'__init__': refuse, '__module__': package})


def _mmdet_utils() -> dict:
    def reduce_mean(tensor):
        _unavailable('mmdet.utils', 'reduce_mean', 'pip install mmdet')()

    return {'ConfigType': dict, 'reduce_mean': reduce_mean}


def _mmcv_ops() -> dict:
    name = 'MultiScaleDeformableAttention'
    return {name: _unavailable('mmcv.ops', name, 'pip install mmcv (built with its operators)')}


def _torchvision_transforms() -> dict:
    name = 'ToPILImage'
    return {name: _unavailable('torchvision.transforms', name, 'pip install torchvision')}


def _cocoeval() -> dict:
    from .cocoeval import COCOeval

    return {'COCOeval': COCOeval}


def _coco() -> dict:
    from pycocotools.coco import COCO

    return {'COCO': COCO}


def _mask() -> dict:
    import pycocotools.mask as mask

    return {name: getattr(mask, name) for name in dir(mask) if not name.startswith('_')}


# module that MMPose imports -> function that returns the names of its stand-in
STAND_INS: dict[str, Callable[[], dict]] = {
    'mmdet.utils': _mmdet_utils,
    'mmcv.ops': _mmcv_ops,
    'torchvision.transforms': _torchvision_transforms,
    'xtcocotools.coco': _coco,
    'xtcocotools.cocoeval': _cocoeval,
    'xtcocotools.mask': _mask,
}
_XTCOCO = ('xtcocotools.coco', 'xtcocotools.cocoeval')
# MMPose module -> stand-ins visible during its import
GUESTS: dict[str, tuple[str, ...]] = {
    'mmpose.models.heads.hybrid_heads.rtmo_head': ('mmdet.utils',),
    'mmpose.models.heads.transformer_heads.edpose_head': ('mmcv.ops',),
    'mmpose.models.heads.transformer_heads.transformers.deformable_detr_layers': ('mmcv.ops',),
    'mmpose.visualization.simcc_vis': ('torchvision.transforms',),
    'mmpose.evaluation.metrics.coco_metric': _XTCOCO,
    'mmpose.evaluation.metrics.coco_wholebody_metric': _XTCOCO,
    'mmpose.datasets.transforms.bottomup_transforms': ('xtcocotools.mask',),
    'mmpose.datasets.datasets.base.base_coco_style_dataset': _XTCOCO,
    'mmpose.datasets.datasets.body.posetrack18_video_dataset': _XTCOCO,
    'mmpose.datasets.datasets.hand.interhand2d_double_dataset': _XTCOCO,
    'mmpose.datasets.datasets.hand.coco_wholebody_hand_dataset': _XTCOCO,
    'mmpose.datasets.datasets.hand3d.interhand_3d_dataset': _XTCOCO,
    'mmpose.datasets.datasets.wholebody3d.ubody3d_dataset': _XTCOCO,
}
# Modules that import an optional package and catch ImportError only; an installed mmdet that is
# incompatible with mmcv raises an AssertionError instead.
PROBES: dict[str, str] = {'mmpose.apis.inferencers.base_mmpose_inferencer': 'mmdet'}

_supplied: dict[str, str] = {}


def supplied() -> dict[str, str]:
    """Return the modules replaced so far: name -> error of the real import."""
    return dict(_supplied)


def import_failure(name: str) -> str | None:
    """Import module `name` and return the error in one line, or None on success."""
    try:
        importlib.import_module(name)
    except Exception as error:  # mmdet asserts versions; extension modules raise any exception
        for loaded in [m for m in sys.modules if m == name or m.startswith(name + '.')]:
            del sys.modules[loaded]
        return f'{type(error).__name__}: {error}'.splitlines()[0]
    return None


@contextmanager
def _stand_ins(names: tuple[str, ...]) -> Iterator[None]:
    """Supply stand-ins for those of `names` that cannot be imported."""
    placed: dict[str, types.ModuleType | None] = {}
    for name in names:
        reason = import_failure(name)
        if reason is None:
            continue
        for missing in _with_parents(name):
            placed[missing] = sys.modules.get(missing)
            sys.modules[missing] = _module(missing, STAND_INS[name]() if missing == name else {})
        _report(name, reason)
    try:
        yield
    finally:
        for name, previous in placed.items():
            sys.modules.pop(name, None)
            if previous is not None:
                sys.modules[name] = previous


def _with_parents(name: str) -> list[str]:
    """Return `name`, after its parent package if that is not imported."""
    parent = name.rpartition('.')[0]
    return [name] if parent in sys.modules else [parent, name]


def _module(name: str, names: dict) -> types.ModuleType:
    module = types.ModuleType(name, f'Stand-in by hrformer_mmpose for {name}.')
    module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
    module.__path__ = []
    module.__dict__.update(names)
    return module


def _report(name: str, reason: str) -> None:
    if name not in _supplied:
        _supplied[name] = reason
        logger.info('standing in for %s (%s)', name, reason)


@contextmanager
def _absent_if_broken(name: str) -> Iterator[None]:
    """Raise ModuleNotFoundError for an installed package that cannot be imported."""
    reason = import_failure(name)
    hide = reason is not None and name not in sys.modules
    if hide:
        sys.modules[name] = None  # marks a module as absent for the import system
    try:
        yield
    finally:
        if hide:
            sys.modules.pop(name, None)


class _GuestLoader(importlib.abc.Loader):
    """Loader of an MMPose module that makes its stand-ins visible."""

    def __init__(self, loader: importlib.abc.Loader):
        self.loader = loader

    def __getattr__(self, name: str):  # get_source and the like, for inspect and tracebacks
        return getattr(self.loader, name)

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module) -> None:
        name = module.__name__
        probe = PROBES.get(name)
        with _absent_if_broken(probe) if probe else _stand_ins(GUESTS[name]):
            self.loader.exec_module(module)


class _Finder(importlib.abc.MetaPathFinder):
    """Finder of the modules in `GUESTS` and `PROBES`, and of pkg_resources where it is absent."""

    def find_spec(self, name, path=None, target=None):
        if name == 'pkg_resources':
            return self._pkg_resources(name)
        if name not in GUESTS and name not in PROBES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _GuestLoader(spec.loader)
        return spec

    @staticmethod
    def _pkg_resources(name):
        if importlib.machinery.PathFinder.find_spec(name) is not None:
            return None
        _report(name, 'ModuleNotFoundError: not part of this setuptools')
        spec = importlib.util.find_spec('hrformer_mmpose.compat.pkg_resources')
        return importlib.util.spec_from_file_location(name, spec.origin)


_finder = _Finder()


def install() -> None:
    """Add the import hook, once."""
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
        # mmcv-lite warns at every start about this operator, which this package does not use.
        warnings.filterwarnings(
            'ignore', message='Fail to import ``MultiScaleDeformableAttention``'
        )
