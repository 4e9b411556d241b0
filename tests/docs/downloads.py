"""A server of this process that stands in for the address of MMPose's files."""

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.config import Config

from hrformer_mmpose import zoo
from hrformer_mmpose.backbones import HRFormer
from hrformer_mmpose.checkpoint import published
from hrformer_mmpose.checkpoint.download import name_hash
from hrformer_mmpose.inference.torch_network import build

STAND_IN = Path(__file__).with_name('stand_in')


def write(name: str, folder: Path) -> None:
    """Write a file in the layout and of the size of a published one, with random weights.

    MMPose published the poses' files with version 0: the head is called `keypoint_head`.
    """
    torch.manual_seed(0)
    if published.FILES[name].results:
        state = build(Config.fromfile(zoo.find(name)), name).state_dict()
        state = {key.replace('head.', 'keypoint_head.', 1): value for key, value in state.items()}
    else:
        state = HRFormer(arch=name.removeprefix('hrformer_')).state_dict()
    path = folder / published.FILES[name].path
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(meta=dict(mmpose_version='0.24.0'), state_dict=state), path)


@contextmanager
def serving(folder: Path, cache: Path) -> Iterator[dict[str, str]]:
    """Serve a folder; yields the variables with which a process downloads from it.

    Args:
        folder: files by their path below MMPose's address.
        cache: folder for PyTorch's cache.
    """

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=folder)

        def log_message(self, *_):
            """Silent."""

    digits = {
        name_hash(path.name): hashlib.sha256(path.read_bytes()).hexdigest()[:8]
        for path in folder.rglob('*.pth')
    }
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield dict(
                STAND_IN_SERVER=f'http://127.0.0.1:{server.server_address[1]}/',
                STAND_IN_DIGITS=json.dumps(digits),
                PYTHONPATH=str(STAND_IN),
                TORCH_HOME=str(cache),
                no_proxy='*',
            )
        finally:
            server.shutdown()
