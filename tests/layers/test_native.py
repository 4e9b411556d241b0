"""Building the CPU kernels, and doing without them. What they compute: test_passes.py."""

import logging
import os
import shutil
import subprocess
import sys

import pytest
import torch

from hrformer_mmpose.layers import HRFormerBlock, native
from hrformer_mmpose.layers.native import build
from tests.conftest import relative_error

needs_kernels = pytest.mark.skipif(not native.available(), reason=f'no kernels: {native.reason()}')


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty cache folder."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.delenv(build.SWITCH, raising=False)
    return tmp_path / 'cache' / 'hrformer_mmpose'


@needs_kernels
def test_built_once(folder):
    _, news = build.load()
    (path,) = folder.iterdir()
    assert str(path) in news
    before = path.stat()
    _, news = build.load()
    assert news is None
    assert path.stat() == before


@needs_kernels
def test_another_source_is_another_file(folder, tmp_path, monkeypatch):
    build.load()
    changed = shutil.copytree(build.FOLDER, tmp_path / 'native')
    with open(changed / 'norms.c', 'a') as file:
        file.write('\nint another(void) { return 7; }\n')
    monkeypatch.setattr(build, 'FOLDER', changed)
    assert build.load()[0].another() == 7
    assert len(list(folder.iterdir())) == 2


@needs_kernels
def test_the_threads_are_pytorchs(folder):
    build.load()
    libraries = subprocess.run(
        ['ldd', *folder.iterdir()], capture_output=True, text=True, check=True
    ).stdout
    with open('/proc/self/maps') as maps:
        loaded = {line.split()[-1] for line in maps if 'libgomp' in line}
    assert len(loaded) == 1
    assert os.path.basename(loaded.pop()) in libraries


def refused() -> str:
    with pytest.raises(native.Unavailable) as caught:
        build.load()
    line = str(caught.value)
    assert '\n' not in line
    return line


def test_switched_off(monkeypatch):
    monkeypatch.setenv(build.SWITCH, '0')
    assert refused() == 'HRFORMER_NATIVE=0'


def test_no_compiler(monkeypatch):
    monkeypatch.setattr(shutil, 'which', lambda name: None)
    assert 'no C compiler' in refused()


def test_another_system(monkeypatch):
    monkeypatch.setattr(build.platform, 'system', lambda: 'Darwin')
    assert 'Darwin' in refused()


@needs_kernels
def test_a_compiler_that_fails(folder, tmp_path, monkeypatch):
    compiler = tmp_path / 'cc'
    compiler.write_text(
        '#!/bin/sh\ncase "$1" in --version) echo broken;; '
        '*) echo "norms.c:1: error: no such flag" >&2; exit 1;; esac\n'
    )
    compiler.chmod(0o755)
    monkeypatch.setenv('CC', str(compiler))
    assert refused() == f"'{compiler}' fails: norms.c:1: error: no such flag"
    assert not list(folder.iterdir())


@needs_kernels
def test_a_cache_folder_that_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
    assert 'cannot be made' in refused()


@needs_kernels
def test_a_full_disk(monkeypatch):
    def full(**_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(build.tempfile, 'TemporaryDirectory', full)
    assert 'No space left on device' in refused()


def test_without_kernels_one_line_says_so(tmp_path):
    """And the network computes as before."""
    code = (
        'import torch\n'
        'from hrformer_mmpose.backbones import HRFormer\n'
        "model = HRFormer(arch='tiny')\n"
        'model(torch.rand(2, 3, 64, 64))[0].mean().backward()\n'
        'model.eval().fuse_for_inference()(torch.rand(1, 3, 64, 64))\n'
    )
    environment = {**os.environ, build.SWITCH: '0'}
    done = subprocess.run(
        [sys.executable, '-c', code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stderr.count('HRFORMER_NATIVE=0') == 1
    assert 'no CPU kernels of our own' in done.stderr


@needs_kernels
def test_a_step_with_and_without(monkeypatch, caplog):
    torch.manual_seed(0)
    block = HRFormerBlock(78, 2, (7, 7), 4.0, drop_path=0.5)
    torch.nn.init.normal_(block.attn.attn.relative_position_bias_table)
    x = torch.randn(3, 78, 16, 12).contiguous(memory_format=torch.channels_last)
    results = []
    for takes in (native.takes, lambda *_: False):
        monkeypatch.setattr(native, 'takes', takes)
        block.zero_grad()
        torch.manual_seed(1)
        image = x.clone().requires_grad_()
        out = block(image)
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        grads = {name: p.grad.clone() for name, p in block.named_parameters()}
        results.append((out.detach(), image.grad, grads))
    (ours, ours_x, ours_grads), (plain, plain_x, plain_grads) = results
    assert not torch.equal(ours, plain), 'the kernels were not called'
    assert relative_error(ours, plain) < 1e-5
    assert relative_error(ours_x, plain_x) < 1e-4
    largest = max(g.norm() for g in plain_grads.values())
    for name, grad in plain_grads.items():
        if grad.norm() > 1e-4 * largest:  # not what is 0 but for rounding
            assert relative_error(ours_grads[name], grad) < 1e-4, name
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
