"""A run that is killed ends with the weights of one that is not."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

pytest.importorskip('mmpose')
from tests.conftest import ROOT

# A network of a moment, at a rate that matters, with everything that has a state: drop path,
# augmentation, warm-up by iterations, decay by epochs, momentum, moving averages of the weights.
CONFIG = """
_base_ = ['{root}/configs/hrformer_tiny_demo_112x84.py']
model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True,
            channels=(4, 8, 8, 8),
            num_heads=(1, 2, 2, 2),
            num_modules=1,
            num_blocks=1,
        ),
        drop_path_rate=0.3,
    ),
    head=dict(in_channels=4, deconv_out_channels=(4,)),
)
param_scheduler = [
    dict(type='LinearLR', begin=0, end=5, start_factor=0.1, by_epoch=False),
    dict(type='MultiStepLR', begin=0, end=9, milestones=[1, 3], gamma=0.5, by_epoch=True),
]
train_cfg = dict(max_epochs=4, val_interval=2)
train_dataloader = dict(batch_size=2, num_workers={workers}, persistent_workers={persistent})
custom_hooks = [dict(type='SyncBuffersHook'), dict(type='EMAHook', momentum=0.1)]
default_hooks = dict(logger=dict(interval=1))
"""


@pytest.fixture
def config(tmp_path, synthetic_root):
    """Writes the config; returns what runs it."""

    def write(workers=0, more=''):
        path = tmp_path / 'tiny.py'
        persistent = workers > 0
        text = CONFIG.format(root=ROOT, workers=workers, persistent=persistent)
        path.write_text(text + more)
        return lambda *args, **options: start(path, synthetic_root, *args, **options)

    return write


def start(config, root, work_dir, *arguments, processes=1, port=29517, log='log'):
    """Start tools/train.py (or dist_train.sh) in a process group of its own."""
    command = [sys.executable, 'tools/train.py', str(config)]
    if processes > 1:
        command = ['bash', 'tools/dist_train.sh', str(config), str(processes)]
    path = os.path.dirname(sys.executable) + os.pathsep + os.environ['PATH']
    env = {**os.environ, 'DEMO_ROOT': str(root), 'PORT': str(port), 'PATH': path}
    env['OMP_NUM_THREADS'] = '1'
    output = open(Path(work_dir).with_suffix(f'.{log}'), 'a')
    command += ['--work-dir', str(work_dir), *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=output, stderr=output, start_new_session=True
    )


def finish(process, work_dir) -> str:
    code = process.wait(timeout=300)
    text = Path(work_dir).with_suffix('.log').read_text()
    assert code == 0, text[-3000:]
    return text


def kill(process) -> None:
    """kill -9 for the run and everything it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for(path, process, seconds=120) -> None:
    until = time.time() + seconds
    while not path.exists():
        assert process.poll() is None, 'the run ended'
        assert time.time() < until, f'{path} did not appear'
        time.sleep(0.01)


def assert_same(ours, other) -> None:
    """Weights, moving averages, optimizer and logged values are equal to the last bit."""
    a, b = (torch.load(path, weights_only=True) for path in (ours, other))
    for part in ('state_dict', 'ema_state_dict'):
        assert [k for k in a[part] if not torch.equal(a[part][k], b[part][k])] == []
    for key, state in a['optimizer']['state'].items():
        for name, value in state.items():
            assert torch.equal(value, b['optimizer']['state'][key][name])
    assert a['optimizer']['param_groups'] == b['optimizer']['param_groups']
    assert a['param_schedulers'] == b['param_schedulers']
    losses = [file['message_hub']['log_scalars']['train/loss']['values'] for file in (a, b)]
    assert torch.equal(*losses)
    assert a['meta']['iter'] == b['meta']['iter']


@pytest.mark.parametrize('workers', [0, 2])
def test_a_killed_run_ends_like_one_that_was_not(config, tmp_path, workers):
    run = config(workers)
    straight, killed = tmp_path / 'straight', tmp_path / 'killed'
    # No seed is configured: the resumed run must take it up from the file.
    finish(run(straight, '--cfg-options', 'randomness.seed=5'), straight)
    process = run(killed, '--cfg-options', 'randomness.seed=5')
    wait_for(killed / 'epoch_2.pth', process)
    kill(process)
    log = finish(run(killed, '--resume'), killed)
    assert re.search(r'resumed epoch: [23]', log)
    assert_same(straight / 'epoch_4.pth', killed / 'epoch_4.pth')
    # The files that are kept are those of the run that was not killed.
    files = [sorted(path.name for path in folder.glob('*.pth')) for folder in (straight, killed)]
    assert files[0] == files[1]
    assert {'epoch_2.pth', 'epoch_3.pth', 'epoch_4.pth'} < set(files[0])


def test_killed_within_an_epoch(config, tmp_path):
    saving = 'default_hooks = dict(checkpoint=dict(by_epoch=False, interval=3, max_keep_ckpts=2))'
    run = config(0, saving)
    straight, killed = tmp_path / 'straight', tmp_path / 'killed'
    finish(run(straight, '--cfg-options', 'randomness.seed=5'), straight)
    last = max(int(p.stem[5:]) for p in straight.glob('iter_*.pth'))
    process = run(killed, '--cfg-options', 'randomness.seed=5')
    wait_for(killed / 'iter_9.pth', process)
    kill(process)
    finish(run(killed, '--resume'), killed)
    assert_same(straight / f'iter_{last}.pth', killed / f'iter_{last}.pth')


def test_killed_on_two_processes(config, tmp_path):
    run = config(0)
    straight, killed = tmp_path / 'straight', tmp_path / 'killed'
    options = dict(processes=2)
    finish(run(straight, '--cfg-options', 'randomness.seed=5', **options), straight)
    process = run(killed, '--cfg-options', 'randomness.seed=5', **options)
    wait_for(killed / 'epoch_2.pth', process)
    kill(process)
    finish(run(killed, '--resume', port=29519, **options), killed)
    assert_same(straight / 'epoch_4.pth', killed / 'epoch_4.pth')


def test_the_newest_file_that_verifies_is_resumed(config, tmp_path):
    run = config(0)
    work_dir = tmp_path / 'work'
    finish(run(work_dir, '--cfg-options', 'train_cfg.max_epochs=3'), work_dir)
    newest = work_dir / 'epoch_3.pth'
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1  # one bit, which PyTorch itself would not notice
    newest.write_bytes(data)
    (work_dir / 'epoch_4.pth.partial').write_bytes(b'half')
    log = finish(run(work_dir, '--resume'), work_dir)
    assert 'passed over' in log
    assert 'checksum' in log
    assert 'resumed epoch: 2' in log
    assert not list(work_dir.glob('*.partial'))


def test_nothing_that_verifies_is_an_error_and_nothing_at_all_a_fresh_start(config, tmp_path):
    run = config(0)
    work_dir = tmp_path / 'work'
    work_dir.mkdir()
    (work_dir / 'epoch_1.pth').write_bytes(b'PK\3\4 half of an archive')
    process = run(work_dir, '--resume')
    assert process.wait(timeout=100) == 1
    line = (tmp_path / 'work.log').read_text().splitlines()[-1]
    assert line.startswith(f"error: '{work_dir}' holds no checkpoint that can be resumed")
    assert 'epoch_1.pth' in line
    (work_dir / 'epoch_1.pth').unlink()
    log = finish(run(work_dir, '--resume', '--cfg-options', 'train_cfg.max_epochs=1'), work_dir)
    assert 'training starts anew' in log


@pytest.mark.slow
def test_a_hundred_kills(config, tmp_path):
    """kill -9 at random moments of a run that saves at every iteration."""
    saving = """
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=1, max_keep_ckpts=2))
train_cfg = dict(max_epochs=250)
val_cfg = val_dataloader = val_evaluator = None
"""
    run = config(0, saving)
    straight, killed = tmp_path / 'straight', tmp_path / 'killed'
    seed = ('--cfg-options', 'randomness.seed=5')
    finish(run(straight, *seed), straight)
    last = max(int(path.stem[5:]) for path in straight.glob('iter_*.pth'))
    moments = random.Random(4)
    arguments = seed
    kills = ends = finished = 0
    while kills < 100:
        log = tmp_path / f'killed.life{kills}'
        process = run(killed, *arguments, log=f'life{kills}')
        arguments = ('--resume',)
        # Half of the lives end at any moment from the start on, the others once training goes on.
        while kills % 2 and process.poll() is None and 'Epoch(train)' not in log.read_text():
            time.sleep(0.02)
        time.sleep(moments.uniform(0, 1.5 if kills % 2 else 9))
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
