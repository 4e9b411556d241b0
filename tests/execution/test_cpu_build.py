"""Building the CPU kernels, and fallbacks without them; their results: test_cpu_kernels.py."""

import logging
import os
import pathlib
import shutil
import stat
import subprocess
import sys
import time

import pytest
import torch

from hrformer_mmpose.execution import cpu
from hrformer_mmpose.execution.block import HRFormerBlock
from hrformer_mmpose.execution.cpu import build
from tests.conftest import relative_error

needs_kernels = pytest.mark.skipif(not cpu.available(), reason=f'no kernels: {cpu.reason()}')


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty cache folder."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.delenv(build.SWITCH, raising=False)
    return tmp_path / 'cache' / 'hrformer_mmpose'


@needs_kernels
def test_built_once(folder):
    _, message = build.load()
    (path,) = folder.iterdir()
    assert str(path) in message
    before = path.stat()
    _, message = build.load()
    assert message is None
    assert path.stat() == before


@pytest.mark.slow
@needs_kernels
def test_another_source_is_another_file(folder, tmp_path, monkeypatch):
    build.load()
    changed = shutil.copytree(build.FOLDER, tmp_path / 'cpu')
    with open(changed / 'norms.c', 'a') as file:
        file.write('\nint another(void) { return 7; }\n')
    monkeypatch.setattr(build, 'FOLDER', changed)
    assert build.load()[0].another() == 7
    assert len(list(folder.iterdir())) == 2


@pytest.mark.slow
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
    with pytest.raises(cpu.Unavailable) as caught:
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


def compiler(folder, monkeypatch, script: str) -> str:
    """Set CC to a shell script."""
    path = folder / 'cc'
    path.write_text(f'#!/bin/sh\n{script}\n')
    path.chmod(0o755)
    monkeypatch.setenv('CC', str(path))
    return str(path)


MACROS = 'case "$*" in *-dM*) echo "#define __VERSION__ 1"; exit;; esac'
FAILING = {
    'with an error': (
        f'{MACROS}; echo In function; echo norms.c:1: error: no such flag >&2; exit 1',
        'fails: norms.c:1: error: no such flag',
    ),
    'with other words': (f'{MACROS}; echo one >&2; echo two >&2; exit 1', 'fails: one'),
    'not in UTF-8': (f"{MACROS}; printf 'norms.c: error: \\351\\n' >&2; exit 1", 'error: \ufffd'),
    'without a word': (f'{MACROS}; exit 3', 'fails: status 3'),
    'in silence': ('exit 0', 'is no C compiler: it prints nothing'),
    'and makes nothing': (f'{MACROS}; exit 0', 'No such file'),
    'and waits for input': (f'{MACROS}; cat; exit 1', 'fails: status 1'),
    'by a signal': ('kill -9 $$', 'fails: status -9'),
}


@needs_kernels
@pytest.mark.parametrize(('script', 'line'), FAILING.values(), ids=FAILING)
def test_a_compiler_that_fails(script, line, folder, tmp_path, monkeypatch):
    compiler(tmp_path, monkeypatch, script)
    assert line in refused()
    assert not list(folder.iterdir())


@pytest.mark.slow
@needs_kernels
def test_output_not_in_utf8_is_no_error(folder, tmp_path, monkeypatch):
    compiler(tmp_path, monkeypatch, "printf '\\351\\n' >&2; printf '// \\351\\n'; exec gcc \"$@\"")
    library, message = build.load()
    assert library.moments
    assert 'built' in message


def is_running(number: int) -> bool:
    try:
        return pathlib.Path(f'/proc/{number}/stat').read_text().split()[2] != 'Z'
    except OSError:
        return False


@needs_kernels
def test_a_compiler_that_hangs(tmp_path, monkeypatch):
    """Its children, which hold its output open, are killed, too."""
    compiler(tmp_path, monkeypatch, f'sleep 60 & echo $! > {tmp_path}/child; wait')
    monkeypatch.setattr(build, 'TIMEOUT', 0.5)
    start = time.monotonic()
    assert 'takes longer than 0.5 s' in refused()
    assert time.monotonic() - start < 20
    child = int((tmp_path / 'child').read_text())
    while is_running(child):
        assert time.monotonic() - start < 20
        time.sleep(0.1)


@pytest.mark.slow
@needs_kernels
def test_a_compiler_with_arguments(folder, monkeypatch):
    monkeypatch.setenv('CC', 'gcc -DV=4 "-DNAME=a b"')
    build.load()
    monkeypatch.setenv('CC', 'gcc -DV=8')
    assert build.load()[1] is not None
    assert len(list(folder.iterdir())) == 2
    monkeypatch.setenv('CC', 'gcc "')
    assert 'CC=' in refused()


@needs_kernels
def test_without_proc(monkeypatch):
    """Hide /proc, from which the path of PyTorch's OpenMP is read."""
    read = pathlib.Path.read_bytes

    def hidden(path):
        if str(path).startswith('/proc'):
            raise FileNotFoundError(2, 'No such file or directory', str(path))
        return read(path)

    monkeypatch.setattr(pathlib.Path, 'read_bytes', hidden)
    assert '/proc/self/maps' in refused()


CODE = 'from hrformer_mmpose.execution import cpu; print(cpu.available())'


def the_file(folder) -> pathlib.Path:
    (path,) = folder.iterdir()
    return path


def built_again(folder) -> bool:
    """Return whether `load` builds the library; the next call loads it without building."""
    library, message = build.load()
    assert library.moments
    assert build.load()[1] is None
    assert stat.S_IMODE(the_file(folder).lstat().st_mode) == 0o700
    return message is not None


def other_owner(path) -> None:
    os.chown(path, 12345, 12345)


def through_a_link(path) -> None:
    path.rename(path.parent.parent / 'elsewhere.so')
    path.symlink_to(path.parent.parent / 'elsewhere.so')


def a_pipe(path) -> None:
    path.unlink()
    os.mkfifo(path)


UNUSABLE = {
    'empty': lambda path: path.write_bytes(b''),
    'truncated': lambda path: os.truncate(path, 4096),
    'short by one byte': lambda path: os.truncate(path, path.stat().st_size - 1),
    'one flipped bit': lambda path: path.write_bytes(
        bytes(b ^ (i == 9000) for i, b in enumerate(path.read_bytes()))
    ),
    'zeros': lambda path: path.write_bytes(bytes(path.stat().st_size)),
    'without a digest': lambda path: path.write_bytes(path.read_bytes()[:-32]),
    'writable by the group': lambda path: path.chmod(0o770),
    'writable by others': lambda path: path.chmod(0o702),
    "another user's": other_owner,
    'a link': through_a_link,
    'a pipe': a_pipe,
}


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    """A cache folder with the kernels."""
    root = tmp_path_factory.mktemp('built')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('XDG_CACHE_HOME', str(root))
        build.load()
    return root / 'hrformer_mmpose'


@pytest.fixture
def copied(built, folder):
    shutil.copytree(built, folder)
    assert build.load()[1] is None
    return folder


@needs_kernels
@pytest.mark.parametrize('change', UNUSABLE.values(), ids=UNUSABLE)
def test_a_file_that_is_damaged_or_anothers_is_replaced(change, copied, built, monkeypatch):
    if change is other_owner and os.geteuid():
        pytest.skip('needs root')

    def build_quickly(compiler, openmp, path):
        """Copy what was built."""
        shutil.copy(the_file(built), path.parent / 'new')
        os.replace(path.parent / 'new', path)
        return 'built'

    monkeypatch.setattr(build, '_build', build_quickly)
    change(the_file(copied))
    assert built_again(copied)


@needs_kernels
def test_a_damaged_file_does_not_crash_the_next_process(copied):
    """Without the check a truncated library kills its process with SIGBUS."""
    os.truncate(the_file(copied), 8192)
    done = subprocess.run([sys.executable, '-c', CODE], capture_output=True, text=True, check=True)
    assert done.stdout == 'True\n'
    assert done.stderr.count('built CPU kernels') == 1
    assert build.load()[1] is None


@needs_kernels
def test_folders_are_this_users_alone(folder, copied, monkeypatch):
    for mode in (0o777, 0o1777, 0o770, 0o722):
        folder.chmod(mode)
        assert f"'{folder}' belongs to another user or can be written by others" in refused()
    folder.chmod(0o755)
    build.load()
    if os.geteuid() == 0:
        os.chown(folder, 12345, 12345)
        assert 'belongs to another user' in refused()


@needs_kernels
def test_new_folders_are_private(folder, built, monkeypatch):
    before = os.umask(0)
    try:
        build.cache_folder()
    finally:
        os.umask(before)
    assert (
        stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    )
    monkeypatch.setenv('XDG_CACHE_HOME', 'relative')
    monkeypatch.setenv('HOME', str(folder.parent))
    assert build.cache_folder() == folder.parent / '.cache' / 'hrformer_mmpose'
    monkeypatch.setenv('HOME', 'relative')
    assert 'there is no home folder' in refused()


@needs_kernels
def test_a_cache_folder_that_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
    assert f"'{tmp_path}/file'" in refused()


@needs_kernels
@pytest.mark.slow
def test_processes_that_build_at_the_same_time(folder):
    processes = [
        subprocess.Popen([sys.executable, '-c', CODE], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert [process.communicate()[0] for process in processes] == ['True\n'] * 3
    assert build.load()[1] is None
    assert len(list(folder.iterdir())) == 1


@needs_kernels
def test_a_full_disk(monkeypatch):
    def full(**_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(build.tempfile, 'TemporaryDirectory', full)
    assert 'No space left on device' in refused()


def test_without_kernels_one_line_says_so(tmp_path):
    """The network trains and infers with the plain forms."""
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
    for available in (cpu.available, lambda name=None, dtype=None: False):
        monkeypatch.setattr(cpu, 'available', available)
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


WITHOUT_MEMORY = """
import resource, torch
from hrformer_mmpose.execution import cpu

def convolve(W, C):
    x = torch.zeros(1, 1, W, C)
    tensors = x, None, None, torch.zeros(C, 9), torch.zeros(C), torch.empty_like(x), None
    return lambda: cpu._call('gelu_dwconv', tensors, *x.shape)

convolve(8, 8)()
calls = convolve(1, 10**6), convolve(10**5, 8)
size = resource.getpagesize() * int(open('/proc/self/statm').read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (size, size))
for call in calls:
    try:
        call()
    except MemoryError as error:
        print(error)
"""


@needs_kernels
def test_without_memory():
    """For all threads, and for one of them."""
    done = subprocess.run(
        [sys.executable, '-c', WITHOUT_MEMORY], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.splitlines() == ['gelu_dwconv: out of memory for its buffers'] * 2
