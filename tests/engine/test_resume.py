"""A run that is killed ends with the weights of one that is not."""

import itertools
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest
import torch

pytest.importorskip('mmpose')
from hrformer_mmpose import io
from tests.conftest import ROOT
from tests.engine.conftest import Killed
from tests.tiny import NETWORK

# At a rate that matters: warm-up by iterations, decay by epochs, momentum.
CONFIG = (
    NETWORK
    + """param_scheduler = [
    dict(type='LinearLR', begin=0, end=5, start_factor=0.1, by_epoch=False),
    dict(type='MultiStepLR', begin=0, end=9, milestones=[1, 3], gamma=0.5, by_epoch=True),
]
train_cfg = dict(max_epochs=4, val_interval=2)
train_dataloader = dict(batch_size=4, num_workers={workers}, persistent_workers={persistent})
default_hooks = dict(logger=dict(interval=1))
"""
)


SEED = ('--cfg-options', 'randomness.seed=5')


@pytest.fixture(scope='module')
def config(tmp_path_factory, synthetic_root):
    """Writes the config, varied; returns what runs it."""

    def write(more='', workers=0):
        path = tmp_path_factory.mktemp('config') / 'tiny.py'
        persistent = workers > 0
        path.write_text(CONFIG.format(workers=workers, persistent=persistent) + more)
        return lambda *args, **options: start(path, synthetic_root, *args, **options)

    return write


@pytest.fixture(scope='module')
def straight(config, tmp_path_factory):
    """Work folder of a run that nothing disturbed, started with --resume where nothing is."""
    work_dir = tmp_path_factory.mktemp('straight') / 'work'
    log = finish(config()(work_dir, '--resume', *SEED), work_dir)
    assert 'training starts anew' in log
    return work_dir


def free_port() -> int:
    with socket.create_server(('127.0.0.1', 0)) as server:
        return server.getsockname()[1]


def start(config, root, work_dir, *arguments, processes=1, log='log'):
    """Start tools/train.py (or dist_train.sh) in a process group of its own."""
    command = [sys.executable, 'tools/train.py', str(config)]
    if processes > 1:
        command = ['bash', 'tools/dist_train.sh', str(config), str(processes)]
    path = os.path.dirname(sys.executable) + os.pathsep + os.environ['PATH']
    env = {**os.environ, 'DEMO_ROOT': str(root), 'PORT': str(free_port()), 'PATH': path}
    env['OMP_NUM_THREADS'] = '1'
    command += ['--work-dir', str(work_dir), *arguments]
    with open(Path(work_dir).with_suffix(f'.{log}'), 'a') as output:
        return subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=output, stderr=output, start_new_session=True
        )


def finish(process, work_dir) -> str:
    code = process.wait(timeout=900)
    text = Path(work_dir).with_suffix('.log').read_text()
    assert code == 0, text[-3000:]
    return text


def kill(process) -> None:
    """kill -9 for the run and everything it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for(path, process, seconds=600) -> None:
    until = time.time() + seconds
    while not path.exists():
        assert process.poll() is None, 'the run ended'
        if time.time() > until:
            kill(process)
            pytest.fail(f'{path} did not appear')
        time.sleep(0.01)


def assert_same(ours, other, schedule=True) -> None:
    """Weights, moving averages, optimizer and logged values are equal to the last bit."""
    a, b = (torch.load(path, weights_only=True) for path in (ours, other))
    for part in ('state_dict', 'ema_state_dict'):
        assert [k for k in a[part] if not torch.equal(a[part][k], b[part][k])] == []
    for key, state in a['optimizer']['state'].items():
        for name, value in state.items():
            assert torch.equal(value, b['optimizer']['state'][key][name])
    if schedule:  # a file of the last iteration does not have the last epoch's step
        assert a['optimizer']['param_groups'] == b['optimizer']['param_groups']
        assert a['param_schedulers'] == b['param_schedulers']
    losses = [file['message_hub']['log_scalars']['train/loss']['values'] for file in (a, b)]
    assert torch.equal(*losses)
    assert a['meta']['iter'] == b['meta']['iter']


def test_ended_within_an_epoch(train, tmp_path):
    """In this process: after five of eight iterations, of which four are saved."""
    options = {
        'train_dataloader.batch_size': 2,
        'default_hooks.checkpoint.by_epoch': False,
        'default_hooks.checkpoint.interval': 2,
    }

    def end_after_five(runner):
        step, count = runner.model.train_step, itertools.count(1)

        def counted(*args, **kwargs):
            if next(count) > 5:
                raise Killed
            return step(*args, **kwargs)

        runner.model.train_step = counted

    straight = train(tmp_path / 'straight', **options)
    assert straight.iter == 8
    with pytest.raises(Killed):
        train(tmp_path / 'ended', prepare=end_after_five, **options)
    assert not (tmp_path / 'ended' / 'iter_6.pth').exists()
    train(tmp_path / 'ended', resume=True, **options)
    assert_same(*(tmp_path / name / 'iter_8.pth' for name in ('straight', 'ended')))


def test_a_missed_validation_follows_the_dynamic_intervals(train, tmp_path):
    def end():
        raise Killed

    intervals = {'train_cfg.val_interval': 9, 'train_cfg.dynamic_intervals': [(2, 1)]}
    with pytest.raises(Killed):  # in the validation after the first epoch
        train(tmp_path, defaultdict(end), **intervals)
    runner = train(tmp_path, {1: 0.1, 2: 0.2}, resume=True, **intervals)
    assert list(runner.message_hub.get_scalar('val/coco/AP').data[0]) == [0.1, 0.2]


@pytest.mark.slow
def test_killed_after_an_epoch_and_with_worker_processes(config, straight, tmp_path):
    run = config(workers=2)
    killed = tmp_path / 'killed'
    process = run(killed, *SEED)
    wait_for(killed / 'epoch_2.pth', process)
    kill(process)
    # The seed is not given again: the file knows it.
    log = finish(run(killed, '--resume'), killed)
    assert re.search(r'resumed epoch: [23]', log)
    assert_same(straight / 'epoch_4.pth', killed / 'epoch_4.pth')
    # The files that are kept are those of the run that was not killed.
    files = [sorted(path.name for path in folder.glob('*.pth')) for folder in (straight, killed)]
    assert files[0] == files[1]
    assert {'epoch_2.pth', 'epoch_3.pth', 'epoch_4.pth'} < set(files[0])
    assert len(files[0]) == 4  # and the best


@pytest.mark.slow
def test_killed_within_an_epoch(config, straight, tmp_path):
    run = config(
        'default_hooks = dict(checkpoint=dict(by_epoch=False, interval=3, max_keep_ckpts=2))'
    )
    killed = tmp_path / 'killed'
    process = run(killed, *SEED)
    wait_for(killed / 'iter_9.pth', process)
    kill(process)
    finish(run(killed, '--resume'), killed)
    last = max(killed.glob('iter_*.pth'), key=lambda path: int(path.stem[5:]))
    assert_same(straight / 'epoch_4.pth', last, schedule=False)


@pytest.mark.slow
def test_killed_on_two_processes(config, tmp_path):
    run = config()
    straight, killed = tmp_path / 'straight', tmp_path / 'killed'
    scaled = ('--auto-scale-lr', *SEED)
    log = finish(run(straight, *scaled, processes=2), straight)
    # Two processes of four images, and a config for sixteen: half of 0.002; warm-up begins at a
    # tenth of it. (MMEngine does not scale what it logs as base_lr.)
    rate = re.search(r'\[1\]\[1/\d+\]\s+base_lr: \S+ lr: (\S+)', log)
    assert float(rate[1]) == pytest.approx(0.001 * 0.1, rel=1e-3)
    process = run(killed, *scaled, processes=2)
    wait_for(killed / 'epoch_2.pth', process)
    kill(process)
    finish(run(killed, '--resume', '--auto-scale-lr', processes=2), killed)
    assert_same(straight / 'epoch_4.pth', killed / 'epoch_4.pth')


@pytest.mark.slow
def test_the_newest_file_that_verifies_is_resumed(config, straight, tmp_path):
    work_dir = tmp_path / 'work'
    shutil.copytree(straight, work_dir)
    newest = work_dir / 'epoch_4.pth'
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1  # one bit, which PyTorch itself does not notice
    newest.write_bytes(data)
    (work_dir / f'epoch_5.pth.{io._host()}-99999999-0.partial').write_bytes(b'half')
    log = finish(config()(work_dir, '--resume'), work_dir)
    assert re.search(r"passed over: '.*epoch_4.pth' .* damaged .*checksum", log)
    assert 'resumed epoch: 3' in log
    assert not list(work_dir.glob('*.partial'))
    assert_same(straight / 'epoch_4.pth', newest)


@pytest.mark.slow
def test_where_nothing_verifies_training_does_not_start_over(config, tmp_path):
    work_dir = tmp_path / 'work'
    work_dir.mkdir()
    (work_dir / 'epoch_1.pth').write_bytes(b'PK\3\4 half of an archive')
    process = config()(work_dir, '--resume')
    assert process.wait(timeout=100) == 1
    line = (tmp_path / 'work.log').read_text().splitlines()[-1]
    assert line.startswith(f"error: '{work_dir}' holds no checkpoint that can be resumed")
    assert 'epoch_1.pth' in line


@pytest.mark.slow
def test_a_hundred_kills(config, tmp_path):
    """kill -9 at random moments of a run that saves at every iteration."""
    saving = """
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=1, max_keep_ckpts=2))
train_cfg = dict(max_epochs=120)
val_cfg = val_dataloader = val_evaluator = None
"""
    run = config(saving)
    straight, killed = tmp_path / 'straight', tmp_path / 'killed'
    finish(run(straight, *SEED), straight)
    last = max(int(path.stem[5:]) for path in straight.glob('iter_*.pth'))
    moments = random.Random(4)
    arguments = SEED
    kills = ends = finished = 0
    while kills < 100:
        log = tmp_path / f'killed.life{kills}'
        process = run(killed, *arguments, log=f'life{kills}')
        arguments = ('--resume', *SEED)
        # Half of the lives end at any moment from the start on, the others once training goes on.
        while kills % 2 and process.poll() is None and 'Epoch(train)' not in log.read_text():
            time.sleep(0.02)
        time.sleep(moments.uniform(0, 1 if kills % 2 else 7))
        if process.poll() is not None:
            ends += 1
            assert process.returncode == 0, log.read_text()[-2000:]
            break
        kill(process)
        kills += 1
        text = log.read_text()
        resumed = re.search(r'resumed epoch: \d+, iter: (\d+)', text)
        if resumed:
            assert int(resumed[1]) >= finished, 'a finished save was lost'
        assert 'Traceback' not in text, text[-2000:]
        # Saves are announced before they are made: the one before the last announced is finished.
        announced = [int(i) for i in re.findall(r'Saving checkpoint at (\d+) iterations', text)]
        finished = max([finished, *(i - 1 for i in announced[-1:])])
    assert kills == 100, f'the run ended after {kills} kills'
    finish(run(killed, '--resume'), killed)
    assert_same(straight / f'iter_{last}.pth', killed / f'iter_{last}.pth')
    print(f'{kills} kills, {finished} of {last} iterations saved before the last life')
