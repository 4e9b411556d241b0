"""Check whether training works on this machine: `hrformer doctor`.

Print the installed packages and the stand-ins for missing ones, run one training step of HRFormer-T
with MMPose's estimator, and print a command that fixes each problem.
"""

import argparse
import importlib
import importlib.metadata
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator

# distribution -> (module to import, command that installs it)
PACKAGES = {
    'torch': ('torch', 'pip install torch==2.13.0'),
    'numpy': ('numpy', "pip install 'numpy<2'"),
    'opencv-python': ('cv2', "pip install 'opencv-python<4.12'"),
    'scipy': ('scipy.stats', 'pip install scipy'),
    'matplotlib': ('matplotlib.pyplot', 'pip install matplotlib'),
    'json-tricks': ('json_tricks', 'pip install json-tricks'),
    'munkres': ('munkres', 'pip install munkres'),
    'six': ('six', 'pip install six'),
    'pycocotools': ('pycocotools.coco', 'pip install pycocotools'),
    'faster-coco-eval': ('faster_coco_eval', 'pip install faster-coco-eval'),
    'mmengine': ('mmengine', 'pip install mmengine==0.10.7'),
    'mmcv': ('mmcv', 'pip install --no-deps mmcv-lite==2.1.0'),
    'mmpose': ('mmpose', 'pip install --no-deps mmpose==1.3.2'),
}
ALIASES = {'opencv-python': ('opencv-python-headless',), 'mmcv': ('mmcv-lite', 'mmcv-full')}
OPTIONAL = ('xtcocotools', 'torchvision', 'mmdet')
MMPOSE_PARTS = ('models', 'datasets', 'evaluation', 'visualization', 'engine', 'apis')


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    return argparse.ArgumentParser(
        description='Check whether training works here; print a command that fixes each problem.'
    )


def run(args: argparse.Namespace) -> int:
    """Print the report; return the exit status."""
    return main()


def main() -> int:
    """Print the report; return the exit status."""
    print(f'python {sys.version.split()[0]} at {sys.executable}\n')
    problems = list(_packages())
    if not problems:
        problems = [*_device(), *_mmpose()]
    if not problems:
        problems = [*_resume(), *_training_step()]
    for number, (problem, fix) in enumerate(problems, start=1):
        print(f'\nproblem {number}: {problem}\n  fix: {fix}')
    print('\n' + (f'{len(problems)} problem(s) found' if problems else 'training works here'))
    return 1 if problems else 0


def _packages() -> Iterator[tuple[str, str]]:
    for name, (module, fix) in PACKAGES.items():
        version = _version(name)
        error = _error(lambda module=module: importlib.import_module(module))
        print(f'  {name:<14} {version or "-":<16} {"" if error is None else "DOES NOT IMPORT"}')
        if error is not None:
            yield (f'{name}: {error}' if version else f'{name} is not installed'), fix
    for name in OPTIONAL:
        print(f'  {name:<14} {_version(name) or "-":<16} optional')


def _version(name: str) -> str | None:
    for candidate in (name, *ALIASES.get(name, ())):
        try:
            return importlib.metadata.version(candidate)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _device() -> Iterator[tuple[str, str]]:
    import torch

    from ..execution import processor

    if not torch.cuda.is_available():
        print(f'\ndevice: CPU, {processor.describe()}')
        _kernels()
        return
    name, capability = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
    print(f'\ndevice: {name}, compute capability {capability[0]}.{capability[1]}')
    _kernels()
    built_for = [
        int(re.sub(r'\D', '', arch))
        for arch in torch.cuda.get_arch_list()
        if 'sm_' in arch  # sm_90a
    ]
    if built_for and capability[0] * 10 + capability[1] < min(built_for):
        yield (
            f'this PyTorch has no kernels for {name}',
            'pip install torch==2.10.0 (the last default build with kernels for V100)',
        )


def _kernels() -> None:
    import torch

    from ..execution import cpu, cuda, processor
    from ..execution.cpu import products

    types = (torch.float32, *({torch.bfloat16} & processor.half_types()))
    built = [str(x).removeprefix('torch.') for x in types if cpu.available(dtype=x)]
    if built:
        print(f'CPU kernels: built for {" and ".join(built)}')
    else:
        print(f"CPU kernels: not built, PyTorch's are used ({cpu.reason()})")
    print(f'matrix products on the CPU: {products.describe()}')
    if torch.cuda.is_available():
        reason = cuda.reason()
        print(f"CUDA kernels: PyTorch's are used ({reason})" if reason else 'CUDA kernels: compile')


def _mmpose() -> Iterator[tuple[str, str]]:
    from ..compat import host

    for part in MMPOSE_PARTS:
        error = _error(lambda part=part: importlib.import_module(f'mmpose.{part}'))
        if error is not None:
            yield f'mmpose.{part} does not import: {error}', PACKAGES['mmpose'][1]
    if names := host.supplied():
        print('\nstand-ins for packages that pose training does not need:')
        for name, reason in names.items():
            print(f'  {name:<24} {reason}')
    else:
        print('\nno stand-ins')


def _resume() -> Iterator[tuple[str, str]]:
    import torch
    from mmengine.logging import HistoryBuffer

    from ..checkpoint.files import read

    def round_trip():
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, 'state.pth')
            torch.save({'log': HistoryBuffer([1.0], [1])}, path)
            read(path)

    if error := _error(round_trip):
        yield f'checkpoints with training state do not load: {error}', PACKAGES['torch'][1]


def _training_step() -> Iterator[tuple[str, str]]:
    error = _error(training_step)
    if error is not None:
        yield f'a training step fails: {error}', 'pip install -e . in the folder of hrformer_mmpose'


def training_step() -> float:
    """Run a forward and backward pass of HRFormer-T with MMPose's estimator; return the loss."""
    import torch
    from mmengine.structures import InstanceData, PixelData
    from mmpose.registry import MODELS
    from mmpose.structures import PoseDataSample

    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    model = MODELS.build(
        dict(
            type='mmpose.TopdownPoseEstimator',
            backbone=dict(type='hrformer_mmpose.HRFormer', arch='tiny'),
            head=dict(
                type='hrformer_mmpose.HeatmapHead',
                in_channels=18,
                out_channels=17,
                deconv_out_channels=None,
            ),
        )
    ).to(device)
    sample = PoseDataSample(
        gt_instance_labels=InstanceData(keypoint_weights=torch.ones(1, 17, device=device)),
        gt_fields=PixelData(heatmaps=torch.rand(17, 16, 12, device=device)),
    )
    images = torch.rand(2, 3, 64, 48, device=device)
    loss = model(images, [sample, sample], mode='loss')['loss_kpt']
    loss.backward()
    return float(loss.detach())


def _error(action: Callable) -> str | None:
    try:
        action()
    except Exception as error:
        return f'{type(error).__name__}: {error}'.strip().splitlines()[0]
    return None
