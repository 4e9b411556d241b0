"""The import hook: what it supplies, to whom, and when it keeps out of the way.

Each case runs in an interpreter of its own, since what is imported stays imported. Packages are
made to be missing, or broken, or real, by folders and a finder put in front of the path.
"""

import subprocess
import sys
import textwrap

import pytest

pytest.importorskip('mmpose')

# The finder of installed packages does not see the named ones, as if they were not there.
HIDE = """
import importlib.machinery, sys
find = importlib.machinery.PathFinder.find_spec
importlib.machinery.PathFinder.find_spec = classmethod(
    lambda cls, name, path=None, target=None:
    None if name.split('.')[0] in {names!r} else find(name, path, target))
"""
BARE = ('torchvision', 'mmdet', 'xtcocotools')
IMPORT_ALL = (
    'import mmpose.models, mmpose.datasets, mmpose.evaluation, mmpose.visualization, mmpose.apis'
)


def run(code: str, hide=(), folder=None) -> str:
    """Standard output of `code` in a new interpreter; fails with its error output."""
    source = HIDE.format(names=tuple(hide)) + textwrap.dedent(code)
    path = f'import sys; sys.path.insert(0, {str(folder)!r})\n' if folder else ''
    done = subprocess.run(
        [sys.executable, '-c', path + source], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_on_a_bare_machine_mmpose_imports_and_nothing_leaks():
    out = run(
        f"""
        import hrformer_mmpose
        {IMPORT_ALL}
        import importlib.util
        from hrformer_mmpose import host
        from mmpose.apis.inferencers.base_mmpose_inferencer import has_mmdet
        from mmpose.registry import MODELS, METRICS, DATASETS
        print(has_mmdet)
        print([n for n in ('torchvision', 'mmdet', 'xtcocotools') if n in sys.modules])
        print(sorted(host.supplied()))
        print(METRICS.get('CocoMetric').__name__, DATASETS.get('CocoDataset').__name__)
        model = MODELS.build(dict(type='hrformer_mmpose.HRFormer', arch='base'))
        print(sum(p.numel() for p in model.parameters()))
        """,
        hide=BARE,
    ).splitlines()
    assert out[0] == 'False'
    assert out[1] == '[]'
    for name in ('mmdet.utils', 'torchvision.transforms', 'xtcocotools.coco'):
        assert name in out[2]
    assert out[3:] == ['CocoMetric CocoDataset', '43210434']


@pytest.mark.slow
def test_without_the_package_mmpose_does_not_import():
    """Fails once MMPose or the machine no longer needs the hook."""
    with pytest.raises(AssertionError, match='Error'):
        run(IMPORT_ALL, hide=BARE)


@pytest.mark.slow
def test_using_a_stand_in_names_the_package_to_install():
    out = run(
        """
        import hrformer_mmpose
        import mmpose.models.heads.hybrid_heads.rtmo_head as rtmo
        import mmpose.visualization.simcc_vis as simcc
        for use in (lambda: rtmo.reduce_mean(1), lambda: simcc.ToPILImage()):
            try:
                use()
            except ImportError as error:
                print(error)
        """,
        hide=BARE,
    )
    assert 'pip install mmdet' in out
    assert 'pip install torchvision' in out


@pytest.mark.parametrize(
    'hide',
    [('pkg_resources',), pytest.param((), marks=pytest.mark.slow)],
    ids=['without', 'as it is'],
)
def test_pkg_resources(hide):
    """MMEngine finds packages whether or not setuptools brings pkg_resources."""
    out = run(
        """
        import hrformer_mmpose
        from mmengine.utils import get_installed_path, is_installed
        print(is_installed('mmengine'), is_installed('no_such_package'))
        print(get_installed_path('mmpose').endswith('mmpose'))
        """,
        hide=hide,
    )
    assert out.split() == ['True', 'False', 'True']


@pytest.mark.slow
def test_real_packages_are_used_where_they_import(tmp_path):
    transforms = tmp_path / 'torchvision' / 'transforms'
    transforms.mkdir(parents=True)
    (tmp_path / 'torchvision' / '__init__.py').write_text('__version__ = "9.9"\n')
    (transforms / '__init__.py').write_text('class ToPILImage:\n    real = True\n')
    out = run(
        """
        import hrformer_mmpose
        import mmpose.visualization.simcc_vis as simcc
        from hrformer_mmpose import host
        import torchvision
        print(simcc.ToPILImage.real, torchvision.__version__)
        print('torchvision.transforms' in host.supplied())
        """,
        hide=('mmdet',),
        folder=tmp_path,
    )
    assert out.split() == ['True', '9.9', 'False']


@pytest.mark.slow
def test_an_mmdet_that_refuses_the_installed_mmcv_counts_as_absent(tmp_path):
    (tmp_path / 'mmdet').mkdir()
    (tmp_path / 'mmdet' / '__init__.py').write_text('assert False, "mmcv 2.2 is incompatible"\n')
    out = run(
        """
        import hrformer_mmpose
        import mmpose.models, mmpose.apis
        from mmpose.apis.inferencers.base_mmpose_inferencer import has_mmdet
        from hrformer_mmpose import host
        print(has_mmdet, host.supplied()['mmdet.utils'])
        """,
        folder=tmp_path,
    )
    assert out.strip() == 'False AssertionError: mmcv 2.2 is incompatible'


def test_the_network_needs_torch_alone():
    out = run(
        """
        import torch
        from hrformer_mmpose.backbones import HRFormer
        print(HRFormer(arch='tiny').eval()(torch.rand(1, 3, 64, 48))[0].shape)
        loaded = {name.split('.')[0] for name, module in sys.modules.items() if module}
        print(sorted(loaded & {'mmengine', 'mmcv', 'mmpose', 'cv2'}))
        """,
        hide=('mmengine', 'mmcv', 'mmpose', 'cv2'),
    )
    assert out.splitlines() == ['torch.Size([1, 18, 16, 12])', '[]']


def test_without_mmpose_the_import_is_silent_and_light():
    source = HIDE.format(names=()) + textwrap.dedent("""
        import importlib.util
        real = importlib.util.find_spec
        importlib.util.find_spec = lambda name: None if name == 'mmpose' else real(name)
        import hrformer_mmpose
        print(hrformer_mmpose.__version__, 'torch' in sys.modules)
        """)
    done = subprocess.run(
        [sys.executable, '-c', source], capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ''
    assert done.stdout.split()[1] == 'False'
