"""Folders of `save_pretrained`: the same poses again, no code, and what can be wrong."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip('mmpose')
pytest.importorskip('safetensors')

from hrformer_mmpose import PoseEstimator
from hrformer_mmpose.checkpoint import load_weights, save_weights
from hrformer_mmpose.cli import main, save_pretrained
from hrformer_mmpose.errors import ConfigError, UserError, WeightsError
from hrformer_mmpose.export import report
from hrformer_mmpose.inference.torch_network import build, read_config
from tests.hub_server import COMMIT, serving
from tests.tiny import NETWORK


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Config and checkpoint of a small network whose keypoints are told apart."""
    folder = tmp_path_factory.mktemp('network')
    (folder / 'small.py').write_text(NETWORK)
    torch.manual_seed(3)
    model = build(read_config(folder / 'small.py'), 'small')
    model.head.final_layer.weight.data.normal_(0, 0.3)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    save_weights(model.state_dict(), folder / 'small.pth', 'mmpose')
    return folder / 'small.py', folder / 'small.pth'


@pytest.fixture(scope='module')
def people(tmp_path_factory):
    return report.generated(tmp_path_factory.mktemp('people'))


@pytest.fixture(scope='module')
def estimator(files):
    return PoseEstimator(*files, 'cpu', flip_test=True)


@pytest.fixture(scope='module')
def original(estimator, tmp_path_factory):
    folder = tmp_path_factory.mktemp('saved') / 'small'
    estimator.save_pretrained(folder, {'coco/AP': 0.5}, 'a test')
    return folder


@pytest.fixture
def folder(original, tmp_path):
    return Path(shutil.copytree(original, tmp_path / 'small'))


def poses_of(estimator, people):
    poses = [pose for one in estimator(*people) for pose in one]
    assert len({tuple(point) for point in poses[0].keypoints}) > 5
    return np.stack([np.column_stack([pose.keypoints, pose.scores]) for pose in poses])


def change(folder: Path, **entries) -> None:
    settings = json.loads((folder / 'config.json').read_text())
    (folder / 'config.json').write_text(json.dumps(settings | entries))


def refused(source, kind=WeightsError) -> str:
    with pytest.raises(kind) as error:
        PoseEstimator.from_pretrained(source)
    assert str(source) in str(error.value) or isinstance(error.value, ConfigError)
    assert '\n' not in str(error.value)
    return str(error.value)


def test_the_same_poses_come_out(estimator, folder, people):
    again = PoseEstimator.from_pretrained(folder, device='cpu')
    np.testing.assert_array_equal(poses_of(again, people), poses_of(estimator, people))
    assert again.network.skeleton == estimator.network.skeleton
    assert again.network.flip_test
    assert sorted(path.name for path in folder.iterdir()) == [
        'README.md', 'config.json', 'model.safetensors'
    ]  # fmt: skip
    again.save_pretrained(folder.parent / 'again')  # of a folder, too
    once, twice = (
        load_weights(path / 'model.safetensors') for path in (folder, folder.parent / 'again')
    )
    assert once.keys() == twice.keys()
    assert all(torch.equal(once[key], twice[key]) for key in once)


def test_the_model_card(folder):
    yaml = pytest.importorskip('yaml')
    _, head, text = (folder / 'README.md').read_text().split('---\n', 2)
    data = yaml.safe_load(head)
    assert data['pipeline_tag'] == 'keypoint-detection'
    assert data['model-index'][0]['results'][0]['metrics'][0]['value'] == 0.5
    assert '| coco/AP | 0.5000 |' in text
    assert 'left_ankle' in text
    assert json.loads((folder / 'config.json').read_text())['sha256'] in text


@pytest.mark.slow
def test_from_the_hub(folder, estimator, people, tmp_path, monkeypatch):
    pytest.importorskip('huggingface_hub')
    with serving(monkeypatch, tmp_path / 'cache') as server:
        server.repos['a/b'] = {COMMIT: {p.name: p.read_bytes() for p in folder.iterdir()}}
        again = PoseEstimator.from_pretrained('hf://a/b', device='cpu')
        np.testing.assert_array_equal(poses_of(again, people), poses_of(estimator, people))
        assert 'names a file' in refused('hf://a/b/config.json')
        server.repos['a/c'] = {COMMIT: {'model.safetensors': b'', 'config.json': b'{}'}}
        assert 'not written by save_pretrained' in refused('hf://a/c')
        del server.repos['a/c'][COMMIT]['config.json']
        server.repos['a/d'] = {COMMIT: {'model.safetensors': b''}}
        assert "no file 'config.json'" in refused('hf://a/d')


def test_a_folder_runs_no_code(folder, tmp_path):
    settings = json.loads((folder / 'config.json').read_text())
    for name in ('subprocess.call', 'os.system', 'antigravity', 'hrformer_mmpose.host.install',
                 'mmengine.Config', 'torch.nn.Linear', 'HRFormer()', ''):  # fmt: skip
        model = json.loads(json.dumps(settings['model']))
        model['backbone']['type'] = name
        change(folder, model=model)
        assert 'it is not loaded' in refused(folder, ConfigError)
    change(folder, model=dict(settings['model'], neck=[dict(type=['os.system'])]))
    assert 'it is not loaded' in refused(folder, ConfigError)
    trap = tmp_path / 'trap.py'
    trap.write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')")
    metainfo = dict(settings['metainfo'], from_file=str(trap))
    change(
        folder, model=settings['model'], metainfo=metainfo, custom_imports=dict(imports=['trap'])
    )
    PoseEstimator.from_pretrained(folder, device='cpu')
    assert not (tmp_path / 'sprung').exists()
    model = dict(settings['model'], metainfo=dict(from_file=str(trap)))
    change(folder, model=model, metainfo=settings['metainfo'])
    PoseEstimator.from_pretrained(folder, device='cpu')
    assert not (tmp_path / 'sprung').exists()
    configs = dict(teacher_cfg=str(trap), student_cfg=str(trap))
    change(folder, model=dict(configs, type='DWPoseDistiller'))
    assert 'a DWPoseDistiller, no TopdownPoseEstimator' in refused(folder, ConfigError)
    change(folder, model=dict(settings['model'], neck=dict(configs, type='DWPoseDistiller')))
    assert 'a whole model within the model, DWPoseDistiller' in refused(folder, ConfigError)
    assert not (tmp_path / 'sprung').exists()


def test_folders_that_are_none(original, folder, tmp_path):
    assert 'is no folder' in refused(tmp_path / 'nowhere')
    (tmp_path / 'empty').mkdir()
    assert 'holds no config.json' in refused(tmp_path / 'empty')
    change(folder, format=0, version='0.0.9')
    assert "has format 0 (written by version '0.0.9'), this version reads 1" in refused(folder)
    change(folder, format=1, model='x')
    assert "no valid entry 'model'" in refused(folder)
    settings = json.loads((folder / 'config.json').read_text())
    change(folder, model=json.loads((original / 'config.json').read_text())['model'])
    for key, entry in (('keypoint_info', dict(x={})), ('keypoint_info', None), ('sigmas', [1])):
        change(folder, metainfo=settings['metainfo'] | {key: entry})
        assert 'metainfo' in refused(folder, (ConfigError, WeightsError))
    change(folder, metainfo=settings['metainfo'], input_size=[0, 5])
    assert "no valid entry 'input_size'" in refused(folder)
    change(folder, kind='BertModel')
    assert 'not written by save_pretrained' in refused(folder)
    for text in ('', '[', '[]', '[' * 100000, '\ud800'):
        (folder / 'config.json').write_bytes(text.encode('utf-8', 'surrogatepass'))
        refused(folder)


def test_weights_that_were_changed(folder):
    weights = folder / 'model.safetensors'
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert 'the SHA-256 of model.safetensors is not the one' in refused(folder)
    weights.unlink()
    with pytest.raises(WeightsError, match='does not exist'):
        PoseEstimator.from_pretrained(folder)


def test_nothing_is_overwritten(estimator, folder):
    before = (folder / 'README.md').read_bytes()
    with pytest.raises(UserError, match='exists: choose a new folder'):
        estimator.save_pretrained(folder)
    assert (folder / 'README.md').read_bytes() == before
    assert sorted(path.name for path in folder.parent.iterdir() if path.name[0] == '.') == []


def run(monkeypatch, capsys, *words) -> tuple[str, str]:
    """Run a command; return what it printed and the line of its error."""
    monkeypatch.setattr('sys.argv', ['hrformer', *map(str, words)])
    error = ''
    try:
        main.main()
    except SystemExit as end:
        error = '' if end.code in (0, None) else str(end.code)
    captured = capsys.readouterr()
    assert 'Traceback' not in captured.err + error
    return captured.out, error


@pytest.fixture
def work_dir(files, tmp_path):
    """A work folder as a training leaves it: config, checkpoints, log of the validations."""
    folder = tmp_path / 'work'
    logs = folder / '20260101_000000' / 'vis_data'
    logs.mkdir(parents=True)
    shutil.copy(files[0], folder / 'small.py')
    content = torch.load(files[1], weights_only=True)
    for name, epoch in (('best_coco_AP_epoch_2.pth', 2), ('epoch_3.pth', 3)):
        torch.save(dict(content, meta=dict(epoch=epoch, iter=9)), folder / name)
    lines = [dict(lr=0.1, loss=2.0, step=2), {'coco/AP': 0.25, 'data_time': 0.1, 'step': 2}]
    lines += [{'coco/AP': 0.125, 'step': 3}]
    (logs / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)))
    return folder


@pytest.mark.slow
def test_the_command_takes_the_best_and_its_validation(
    work_dir, tmp_path, estimator, people, monkeypatch, capsys
):
    out = tmp_path / 'published'
    text, error = run(monkeypatch, capsys, 'save-pretrained', work_dir, out)
    assert not error
    assert 'best_coco_AP_epoch_2.pth' in text
    assert 'coco/AP 0.2500 (the validation after epoch 2' in text
    assert '| coco/AP | 0.2500 |' in (out / 'README.md').read_text()
    again = PoseEstimator.from_pretrained(out, device='cpu', flip_test=True)
    np.testing.assert_array_equal(poses_of(again, people), poses_of(estimator, people))
    assert 'exists' in run(monkeypatch, capsys, 'save-pretrained', work_dir, out)[1]


@pytest.mark.slow
def test_the_command_takes_the_metrics_of_a_test(work_dir, tmp_path, monkeypatch, capsys):
    results = tmp_path / 'metrics.json'
    results.write_text(json.dumps({'coco/AP': 0.375, 'report': {'metrics': {}}}))
    words = ('save-pretrained', work_dir, tmp_path / 'new', '--results', results)
    text, error = run(monkeypatch, capsys, *words, '--checkpoint', work_dir / 'epoch_3.pth')
    assert not error
    assert 'card: coco/AP 0.3750 (`tools/test.py`, metrics.json)' in text


def test_the_card_has_the_metrics_of_its_own_training_only(work_dir, tmp_path):
    (tmp_path / 'other').mkdir()
    (tmp_path / 'files').mkdir()
    for folder in ('other', 'files'):
        shutil.copy(work_dir / 'epoch_3.pth', tmp_path / folder)
    (work_dir / 'last_checkpoint').write_text(str(tmp_path / 'files/epoch_9.pth'))  # out_dir

    def metrics(path) -> dict:
        return save_pretrained._validation(work_dir, str(path))[0]

    assert metrics(work_dir / 'epoch_3.pth') == {'coco/AP': 0.125}
    assert metrics(tmp_path / 'files/epoch_3.pth') == {'coco/AP': 0.125}
    assert metrics(tmp_path / 'other/epoch_3.pth') == {}


def test_mistakes_of_the_command_are_one_line(work_dir, files, tmp_path, monkeypatch, capsys):
    def line(*words) -> str:
        error = run(monkeypatch, capsys, 'save-pretrained', *words)[1]
        assert error.startswith('error: ')
        assert '\n' not in error
        return error

    out = tmp_path / 'new'
    assert 'needs --checkpoint' in line(files[0], out)
    assert 'is empty' in line('', out)
    (work_dir / 'x.json').write_text('{"a": 1}')
    assert 'holds no metrics' in line(work_dir, out, '--results', work_dir / 'x.json')
    assert 'cannot be read' in line(work_dir, out, '--results', work_dir / 'y.json')
    assert 'does not exist' in line(work_dir, out, '--checkpoint', work_dir / 'y.pth')
    (work_dir / 'other.py').write_text('')
    assert '2 configs' in line(work_dir, out)
    for path in work_dir.glob('*.py'):
        path.unlink()
    assert 'no config' in line(work_dir, out)
    assert not out.exists()


@pytest.mark.slow
def test_predict_takes_a_folder(folder, people, tmp_path, monkeypatch, capsys):
    words = ['predict', people[0][0], '--model', folder, '--boxes', 'whole-image']
    words += ['--device', 'cpu', '--out']
    assert not run(monkeypatch, capsys, *words, tmp_path / 'out')[1]
    assert list((tmp_path / 'out').glob('*.json*'))
    assert (
        'leave --checkpoint out'
        in run(monkeypatch, capsys, *words, tmp_path / 'other', '--checkpoint', 'x')[1]
    )
