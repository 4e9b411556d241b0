"""Reading any file safely, and writing one whole."""

import argparse
import os
import pickle
import subprocess
from collections import Counter, OrderedDict
from pathlib import Path

import pytest
import torch

from hrformer_mmpose import io
from hrformer_mmpose.checkpoint import files, load_weights, save_weights
from hrformer_mmpose.errors import WeightsError
from hrformer_mmpose.io import remove_partials, replacing

WEIGHTS = {'conv1.weight': torch.randn(4, 3), 'bn1.running_mean': torch.randn(4).half()}


def assert_holds_weights(path) -> None:
    loaded = load_weights(path)
    assert loaded.keys() == WEIGHTS.keys()
    assert all(torch.equal(loaded[key], WEIGHTS[key]) for key in WEIGHTS)


@pytest.mark.parametrize(
    'wrap',
    [
        lambda weights: weights,
        lambda weights: OrderedDict(weights),
        lambda weights: {'state_dict': weights, 'meta': {'epoch': 3}},
        lambda weights: {'model': weights, 'epoch': 3, 'max_accuracy': 0.5},
        lambda weights: {'state_dict': {f'module.{k}': v for k, v in weights.items()}},
        lambda weights: {k: torch.nn.Parameter(v) for k, v in weights.items()},
    ],
    ids=['bare', 'ordered', 'state_dict', 'model', 'DataParallel', 'parameters'],
)  # fmt: skip
@pytest.mark.parametrize('zipped', [True, False], ids=['zip', 'legacy'])
def test_weights_come_out_of_what_wraps_them(tmp_path, wrap, zipped):
    path = tmp_path / 'weights.pth'
    torch.save(wrap(WEIGHTS), path, _use_new_zipfile_serialization=zipped)
    assert_holds_weights(path)


def test_safetensors(tmp_path):
    pytest.importorskip('safetensors')
    path = tmp_path / 'weights.safetensors'
    save_weights(WEIGHTS, path, 'official-pose')
    assert_holds_weights(path)
    assert files.recorded_origin(files.read(path)) == 'official-pose'
    renamed = path.rename(tmp_path / 'weights.pth')  # the content counts, not the name
    assert_holds_weights(renamed)


def test_what_mmengine_and_the_authors_stored_besides(tmp_path):
    """HistoryBuffers, NumPy arrays, settings objects: read, as records without behaviour."""
    logging = pytest.importorskip('mmengine.logging')
    import numpy as np

    path = tmp_path / 'run.pth'
    buffer = logging.HistoryBuffer([1.0, 2.0], [1, 1])
    hub = {'log_scalars': OrderedDict(loss=buffer), 'runtime_info': {'best': np.float64(0.5)}}
    meta = {'sigmas': np.ones(3, np.float32), 'names': np.array(['a', 'b']), 'on': np.bool_(True)}
    config = argparse.Namespace(lr=0.1, milestones=Counter([170, 200]))
    torch.save({'state_dict': WEIGHTS, 'message_hub': hub, 'meta': meta, 'config': config}, path)
    assert_holds_weights(path)
    content = files.read(path)
    assert content['message_hub']['log_scalars']['loss']._log_history.tolist() == [1.0, 2.0]
    assert content['message_hub']['runtime_info']['best'] == 0.5
    assert content['meta']['sigmas'].tolist() == [1, 1, 1]
    assert content['config'] == {'lr': 0.1, 'milestones': {170: 1, 200: 1}}


class Call:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize('how', ['torch', 'legacy', 'pickle'])
def test_a_file_with_code_is_refused_by_name_and_does_not_run(tmp_path, how):
    path, trace = tmp_path / 'weights.pth', tmp_path / 'hacked'
    content = {'state_dict': WEIGHTS, 'meta': Call(os.system, f'touch {trace}')}
    if how == 'pickle':
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == 'torch')
    with pytest.raises(WeightsError) as refused:
        load_weights(path)
    assert str(refused.value).startswith(f"refused '{path}': reading it would run code (")
    assert 'posix.system' in str(refused.value)
    assert '\n' not in str(refused.value)
    assert not trace.exists()


@pytest.mark.parametrize(
    'call',
    [(getattr, torch.Size, 'numel'), (eval, '1'), (torch.load, 'x'), (subprocess.Popen, 'true')],
    ids=lambda call: call[0].__name__,
)
def test_names_on_the_list_open_no_door(tmp_path, call):
    path = tmp_path / 'weights.pth'
    torch.save({'state_dict': WEIGHTS, 'meta': Call(*call)}, path)
    if call[0] is getattr:  # by which MMEngine's files name methods: gives nothing here
        assert files.read(path)['meta'] is None
        return
    with pytest.raises(WeightsError, match='refused'):
        load_weights(path)


def damaged(path) -> str:
    with pytest.raises(WeightsError) as error:
        load_weights(path)
    line = str(error.value)
    assert str(path) in line
    assert '\n' not in line
    assert 'Traceback' not in line
    return line


@pytest.mark.parametrize('kind', ['zip', 'legacy', 'safetensors'])
def test_truncated_at_every_tenth(tmp_path, kind):
    path = tmp_path / f'weights.{kind}'
    if kind == 'safetensors':
        pytest.importorskip('safetensors')
        save_weights(WEIGHTS, path, 'mmpose')
    else:
        torch.save(WEIGHTS, path, _use_new_zipfile_serialization=kind == 'zip')
    whole = path.read_bytes()
    for tenth in range(10):
        path.write_bytes(whole[: len(whole) * tenth // 10])
        line = damaged(path)
        assert 'copy or download it again' in line


def test_one_wrong_bit(tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save({'weight': torch.zeros(1000)}, path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    assert not torch.load(path, weights_only=True)['weight'].eq(0).all()  # PyTorch takes it
    assert 'Bad CRC-32' in damaged(path)


@pytest.mark.parametrize(
    ('content', 'says'),
    [
        (b'', 'is empty (0 bytes)'),
        (bytes(5000), 'holds only zeros'),
        (b'\n<!DOCTYPE html><html><body>Sign in</body></html>', 'is a web page'),
        (b'<HTML><head></head></HTML>', 'is a web page'),
        (b'version https://git-lfs.github.com/spec/v1\noid sha256:1\n', 'Git LFS pointer'),
        (b'epoch 3\n', 'is a text file, no checkpoint'),
        (b'half a model', 'is a text file, no checkpoint'),
        (b'\x80\x02h\x05.', 'is damaged or no checkpoint (there is no value 5)'),
        (os.urandom(3000), 'is damaged or no checkpoint'),
    ],
    ids=['empty', 'zeros', 'html', 'HTML', 'lfs', 'text', 'words', 'pickle', 'noise'],
)
def test_what_is_no_checkpoint_says_so(tmp_path, content, says):
    path = tmp_path / 'weights.pth'
    path.write_bytes(content)
    assert says in damaged(path)


def test_an_exported_network_is_no_checkpoint(tmp_path):
    path = tmp_path / 'hrformer.onnx'
    path.write_bytes(b'\x08\x08\x12\x07pytorch')
    assert 'is an exported network: give the checkpoint that it was exp' in damaged(path)


def test_files_without_weights_say_what_they_hold(tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save({'epoch': 3, 'lr': 0.1}, path)
    assert 'holds no weights, only epoch, lr' in damaged(path)
    torch.save([1, 2], path)
    assert 'holds no weights, only a list' in damaged(path)
    assert 'is a folder' in damaged(tmp_path)
    assert 'does not exist' in damaged(tmp_path / 'nothing.pth')


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / 'file'
    path.write_text('old')

    def write(text, fails):
        with replacing(path) as partial:
            Path(partial).write_text(text)
            assert path.read_text() == 'old'
            if fails:
                raise RuntimeError

    with pytest.raises(RuntimeError):
        write('half', fails=True)
    assert path.read_text() == 'old'
    assert [*tmp_path.iterdir()] == [path]
    write('new', fails=False)
    assert path.read_text() == 'new'
    assert [*tmp_path.iterdir()] == [path]


def test_writing_does_not_follow_a_link(tmp_path):
    """In a folder that others can write, a link could lead the writing to any file."""
    victim, path = tmp_path / 'victim', tmp_path / 'file'
    victim.write_text('precious')
    (tmp_path / 'file.partial').symlink_to(victim)
    path.symlink_to(victim)
    with replacing(path) as partial:
        assert not Path(partial).is_symlink()
        Path(partial).write_text('new')
    assert victim.read_text() == 'precious'
    assert path.read_text() == 'new'
    assert not path.is_symlink()


def test_two_writers_of_one_file_do_not_mix(tmp_path):
    path = tmp_path / 'file'
    with replacing(path) as first:
        Path(first).write_text('first, ha')
        with replacing(path) as second:
            Path(second).write_text('second')
        assert path.read_text() == 'second'
        Path(first).write_text('first, whole')
    assert path.read_text() == 'first, whole'


def test_what_a_killed_process_left_is_removed_on_its_own_machine_only(tmp_path, monkeypatch):
    with replacing(tmp_path / 'file') as partial:
        running = Path(partial)
        killed = running.with_name(running.name.replace(f'-{os.getpid()}-', '-99999999-'))
        killed.touch()
        with monkeypatch.context() as patch:
            patch.setattr(io, '_host', lambda: 'elsewhere')
            remove_partials(tmp_path)
        assert {*tmp_path.iterdir()} == {running, killed}
        remove_partials(tmp_path)
        assert {*tmp_path.iterdir()} == {running}
