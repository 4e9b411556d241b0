"""Run the commands and blocks of Python of each page from top to bottom (slow).

The user has small files of the names that the pages use (`user.py`), and a server of this machine
for published weights (`downloads.py`). What needs a package registry runs in environments of its
own, after the page's `pip install`.
"""

import importlib.util
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip('mmpose')
from . import downloads, pages
from .command_lists import AS_THEY_ARE, EXPECTED, ONLINE, PYTHON_CHANGED, RUN, SERVERS, SMALLER
from .user import User, pictures, write_environment, write_kit

pytestmark = pytest.mark.slow
PUBLISHED = 'hrformer_base_coco_256x192', 'hrformer_small'


@pytest.fixture(scope='session')
def kit(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('kit')
    write_kit(folder)
    return folder


@pytest.fixture(scope='session')
def published_files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('published')
    for name in PUBLISHED:
        downloads.write(name, folder)
    return folder


@pytest.fixture
def user(kit, tmp_path, monkeypatch) -> Iterator[User]:
    user = User(tmp_path / 'user', kit, dict(PORT=str(free_port())))
    monkeypatch.chdir(user.folder)
    yield user
    user.stop()


@pytest.fixture
def downloading(user, published_files, tmp_path) -> Iterator[User]:
    """The user, with the server that stands in for MMPose's."""
    with downloads.serving(published_files, tmp_path / 'torch') as variables:
        user.variables |= variables
        yield user


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def changed(command: str, changes: list[str | tuple[str, str]]) -> str:
    """Return a command of a page as it runs here."""
    for change in changes:
        if isinstance(change, tuple):
            assert change[0] in command
            command = command.replace(*change)
        else:
            command = f'{command} {change}'
    return command if any(text in command for text in AS_THEY_ARE) else smaller(command)


def smaller(text: str) -> str:
    for name, other in SMALLER.items():
        text = text.replace(name, other)
    return text


def script(block: pages.Block) -> str:
    """Return the commands of a block that run in the tests' environment."""
    lines = [changed(c, RUN[c]) for c in pages.commands(block) if c in RUN]
    if importlib.util.find_spec('openvino') is None:
        lines = [line for line in lines if '.xml' not in line]
    return '\n'.join(lines)


def run_python(block: pages.Block, names: dict) -> None:
    source = smaller(block.text)
    for (page, start), pairs in PYTHON_CHANGED.items():
        if page == block.page and block.text.startswith(start):
            for pair in pairs:
                source = source.replace(*pair)
    exec(compile('\n' * (block.line - 1) + source, block.page, 'exec'), names)


def of_page(page: str, commands: dict) -> bool:
    blocks = [block for block in pages.blocks(page) if block.is_shell]
    return any(command in commands for block in blocks for command in pages.commands(block))


def has_python(page: str) -> bool:
    return any(block.language == 'python' for block in pages.blocks(page))


@pytest.mark.parametrize(
    'page', [page for page in pages.PAGES if of_page(page, RUN) or has_python(page)]
)
def test_a_page_runs_from_top_to_bottom(page, downloading):
    import torch

    user = downloading
    if 'onnx' in pages.read(page):
        pytest.importorskip('onnx')
        pytest.importorskip('onnxruntime')
        prepare_exported(page, user)
    if of_page(page, {'make demo': ...}):
        shutil.rmtree('data/demo')
        shutil.rmtree('work_dirs/demo')
    names = dict(
        FILE=str(user.folder / 'hrt_small.pth'),
        here=str(user.folder),
        heatmaps=torch.rand(2, 17, 64, 48),
    )
    for block in pages.blocks(page):
        if block.is_shell and (lines := script(block)):
            user.run(lines)
        elif block.language == 'python':
            run_python(block, names)


def prepare_exported(page: str, user: User) -> None:
    """Write the exported files that a page expects."""
    export = 'hrformer export hrformer_tiny_coco_256x192 checkpoint.pth'
    text = '\n'.join(block.text for block in pages.blocks(page))
    if 'hrformer.onnx' in text and 'checkpoint.pth hrformer.onnx' not in text:
        user.run(f'{export} hrformer.onnx --no-check')
    if '--exported b.onnx' in text:
        user.run(f'{export} b.onnx --no-flip --no-check\ncp b.onnx t.onnx')
        if importlib.util.find_spec('openvino'):
            user.run(f'{export} b_bf16.xml --precision bfloat16 --no-flip --no-check')


# With a registry ----------------------------------------------------------------------------------


@pytest.fixture(scope='session')
def registry(tmp_path_factory) -> None:
    """Skip where pip reaches no package registry."""
    folder = tmp_path_factory.mktemp('registry')
    command = [sys.executable, '-m', 'venv', folder / 'venv']
    subprocess.run(command, check=True)
    fetch = 'pip --retries 0 --timeout 20 download --quiet --no-deps -d . iniconfig'
    command = [folder / 'venv/bin/python', '-m', *fetch.split()]
    done = subprocess.run(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        pytest.skip(f'pip reaches no registry: {done.stderr[-200:]}')


@pytest.mark.usefixtures('registry')
@pytest.mark.parametrize('page', [page for page in pages.PAGES if of_page(page, ONLINE)])
def test_a_page_runs_with_the_packages_that_it_installs(page, user, tmp_path):
    pytest.importorskip('onnx')
    user.run('hrformer export hrformer_tiny_coco_256x192 checkpoint.pth hrformer.onnx --no-check')
    port = user.variables['PORT']
    environments: dict[str, Path] = {}

    def environment(name: str) -> Path:
        if name not in environments:
            environments[name] = tmp_path / name
            write_environment(environments[name], shared=name == 'shared')
            if page in EXPECTED:
                user.run(EXPECTED[page], environments[name])
        return environments[name]

    for block in pages.blocks(page):
        for command in filter(ONLINE.__contains__, pages.commands(block) if block.is_shell else []):
            name, changes = ONLINE[command]
            line = changed(command, changes).replace('PORT', port)
            if any(server in command for server in SERVERS):
                user.start(line, environment(name), f'http://127.0.0.1:{port}')
            else:
                output = user.run(line, environment(name))
                check(command, output, user, environment(name))


def check(command: str, output: str, user: User, venv: Path) -> None:
    """Compare what a command leaves with what its page promises."""
    if command.startswith('curl'):
        assert output.count('"keypoints"') == 1, output
    elif command.startswith('jupyter'):
        assert pictures(user.folder / 'docs/notebook.ipynb') == 6
    elif command == 'make install':
        assert user.run('. installed/bin/activate\nhrformer doctor')
    elif '--no-deps . &&' in command:  # what follows it
        for block in pages.blocks('docs/export.md'):
            if block.language == 'python':
                user.run(f"python - <<'END'\n{block.text}print(len(poses), 'pose')\nEND", venv)
