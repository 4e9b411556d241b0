"""Published files by name, compared with MMPose's own metafiles and networks."""

import hashlib
import http.server
import importlib.util
import re
import threading
from pathlib import Path

import pytest
import torch

pytest.importorskip('mmpose')
import mmpose
import yaml
from mmengine.config import Config

from hrformer_mmpose import zoo
from hrformer_mmpose.checkpoint import load_weights, published
from hrformer_mmpose.checkpoint.download import name_hash
from hrformer_mmpose.cli import models
from hrformer_mmpose.errors import WeightsError
from hrformer_mmpose.inference.torch_network import build, crop_settings, skeleton
from tests.conftest import ROOT

MIM = Path(mmpose.__file__).parent / '.mim'
METAFILES = [
    *MIM.glob('configs/body_2d_keypoint/topdown_heatmap/coco/*.yml'),
]


@pytest.fixture(scope='module')
def theirs() -> dict[str, dict]:
    """MMPose's entries by address of the weights."""
    entries = [entry for path in METAFILES for entry in yaml.safe_load(path.read_text())['Models']]
    assert len(entries) > 50
    return {entry['Weights']: entry for entry in entries}


def test_addresses_and_results_are_those_of_mmposes_metafiles(theirs):
    names = [name for name, file in published.FILES.items() if file.results]
    assert len(names) == 20
    for name in names:
        file = published.FILES[name]
        (result,) = theirs[file.address]['Results']
        metrics = [result['Metrics'][key] for key in ('AP', 'AP@0.5', 'AP@0.75', 'AR', 'AR@0.5')]
        assert list(file.results) == metrics, name
        assert name in zoo.names()


def test_backbones_are_those_that_mmposes_configs_start_from():
    configs = MIM / 'configs/body_2d_keypoint/topdown_heatmap/coco'
    for name in ('hrformer_small', 'hrformer_base'):
        path = configs / f'td-hm_{name.replace("_", "-")}_8xb32-210e_coco-256x192.py'
        assert published.FILES[name].address in re.sub(r"'\s+'", '', path.read_text())


def test_every_name_carries_a_hash():
    hashes = [name_hash(file.path) for file in published.FILES.values()]
    assert all(len(digits) == 8 for digits in hashes)
    assert len({*hashes}) == len(hashes) == 22


def same_network(name: str, theirs: dict) -> None:
    """Compare the entries of both networks, and the geometry of their crops."""
    theirs_cfg = Config.fromfile(MIM / theirs[published.FILES[name].address]['Config'])
    ours_cfg = zoo.read_config(name)
    ours, mmposes = (build(cfg, name).state_dict() for cfg in (ours_cfg, theirs_cfg))
    shapes = [
        {key: value.shape for key, value in state.items() if not key.endswith('_index')}
        for state in (ours, mmposes)
    ]
    assert shapes[0] == shapes[1]
    assert crop_settings(ours_cfg, name) == crop_settings(theirs_cfg, name)
    assert skeleton(ours_cfg) == skeleton(theirs_cfg)


@pytest.mark.slow
@pytest.mark.usefixtures('no_init')
@pytest.mark.parametrize('name', [n for n, file in published.FILES.items() if file.results])
def test_every_config_builds_the_network_of_its_file(name, theirs):
    same_network(name, theirs)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server of the folder `served`, in place of MMPose's."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    monkeypatch.setenv('no_proxy', '*')
    served = tmp_path / 'served'
    served.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=served)

        def log_message(self, *_):
            """Silent."""

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        monkeypatch.setattr(published, '_ROOT', f'http://127.0.0.1:{server.server_address[1]}/')
        yield served
        server.shutdown()


def publish(
    monkeypatch, served: Path, name: str, content: bytes, digits: str | None = None
) -> None:
    digits = digits or hashlib.sha256(content).hexdigest()[:8]
    path = f'{name}-{digits}_20220316.pth'
    (served / path).write_bytes(content)
    monkeypatch.setitem(published.FILES, name, published.PublishedFile(path))


def test_a_name_is_downloaded_and_its_hash_compared(server, monkeypatch, tmp_path):
    torch.save({'conv1.weight': torch.ones(9)}, tmp_path / 'file.pth')
    content = (tmp_path / 'file.pth').read_bytes()
    publish(monkeypatch, server, 'one', content)
    publish(monkeypatch, server, 'two', content, digits='01234567')
    assert load_weights('mmpose://one')['conv1.weight'].sum() == 9
    for path in server.iterdir():
        path.rename(path.with_suffix('.old'))
    assert load_weights('mmpose://one')['conv1.weight'].sum() == 9  # cached
    for path in server.iterdir():
        path.rename(path.with_suffix('.pth'))
    with pytest.raises(WeightsError, match='its name says 01234567') as error:
        load_weights('mmpose://two')
    assert '\n' not in str(error.value)


def test_names_that_do_not_exist():
    with pytest.raises(WeightsError, match=r'near ones: hrformer_small_coco_256x192, ') as error:
        load_weights('mmpose://hrformer_smal_coco_256x192')
    assert '\n' not in str(error.value)
    with pytest.raises(WeightsError, match='near ones: hrformer_small, '):
        load_weights('mmpose://x')


def test_a_bare_name_is_a_path_and_nothing_is_downloaded():
    with pytest.raises(WeightsError, match='mmpose://hrformer_small is a published file'):
        load_weights('hrformer_small')


def test_the_page_has_the_current_table():
    path = ROOT / 'docs/refresh_weights.py'
    spec = importlib.util.spec_from_file_location('refresh_weights', path)
    refresh = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(refresh)
    text = refresh.PAGE.read_text(encoding='utf-8')
    assert refresh.refreshed(text) == text, 'run python docs/refresh_weights.py'
    configs = re.findall(r'^\| \[.*?\) \| `(\w+)` \|', text, re.MULTILINE)
    assert len(configs) == 16
    assert {*configs} <= {*zoo.names()}


def test_the_command_lists_them(capsys):
    models.run(models.parser().parse_args(['--weights']))
    lines = capsys.readouterr().out.splitlines()
    for name, file in published.FILES.items():
        (line,) = [line for line in lines if line.split(' ')[0] == f'mmpose://{name}']
        assert line.endswith(file.address)
        assert file.reproduces in line
