"""A run's folder: held by one run, never emptied by a start that fails, repaired after a kill."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

pytest.importorskip('mmpose')
from hrformer_mmpose.engine import checkpoint_hook, work_dir
from hrformer_mmpose.errors import ConfigError, UserError, WeightsError
from tests.engine.conftest import Killed

BEST = 'best_coco_AP_epoch_{}.pth'.format


def listing(folder) -> dict[str, bytes]:
    """Names and contents of the checkpoints of a folder."""
    paths = [*Path(folder).glob('*.pth'), *Path(folder).glob('last_checkpoint')]
    return {path.name: path.read_bytes() for path in paths}


# Files of other folders.


def test_resuming_elsewhere_leaves_the_first_folder_alone(train, tmp_path, caplog):
    train(tmp_path / 'a', {1: 0.1}, **{'train_cfg.max_epochs': 1})
    before = listing(tmp_path / 'a')
    assert {*before} == {'epoch_1.pth', BEST(1), 'last_checkpoint'}
    b = tmp_path / 'b'
    train(b, {2: 0.2}, resume=True, load_from=str(tmp_path / 'a/epoch_1.pth'))
    assert listing(tmp_path / 'a') == before
    assert {*listing(b)} == {'epoch_2.pth', BEST(2), 'last_checkpoint'}
    assert (b / 'last_checkpoint').read_text() == str(b / 'epoch_2.pth')


@pytest.mark.slow
def test_a_copied_folder_has_its_own_files(train, tmp_path):
    """Also where few are kept: the oldest is removed in the copy, not in the original."""
    few = {'default_hooks.checkpoint.max_keep_ckpts': 1}
    train(tmp_path / 'a', {1: 0.1}, **few, **{'train_cfg.max_epochs': 1})
    before = listing(tmp_path / 'a')
    b = shutil.copytree(tmp_path / 'a', tmp_path / 'b')
    train(b, {2: 0.2}, resume=True, **few)
    assert listing(tmp_path / 'a') == before
    assert {*listing(b)} == {'epoch_2.pth', BEST(2), 'last_checkpoint'}


@pytest.mark.slow
def test_files_that_a_state_names_are_removed_in_its_own_folder_only(train, tmp_path):
    """A checkpoint may name any path as the one to remove next."""
    mine, folder = tmp_path / 'mine.pth', tmp_path / 'a'
    mine.write_text('precious')
    train(folder, {1: 0.1}, **{'train_cfg.max_epochs': 1})
    content = torch.load(folder / 'epoch_1.pth')
    recorded = content['message_hub']['runtime_info']
    recorded.update(best_ckpt=str(mine), replaced_best=[str(mine), '../mine.pth'])
    torch.save(content, folder / 'epoch_1.pth')
    shutil.copytree(folder, tmp_path / 'b')
    few = {'default_hooks.checkpoint.max_keep_ckpts': 1}
    train(folder, {2: 0.2}, resume=True, **few)
    assert mine.read_text() == 'precious'
    recorded.update(keep_ckpt_ids=['/../../mine'])
    torch.save(content, tmp_path / 'b/epoch_1.pth')
    with pytest.raises(WeightsError, match='keep_ckpt_ids is '):
        train(tmp_path / 'b', {2: 0.2}, resume=True, **few)


# Earlier runs in the same folder.


def test_an_earlier_run_is_set_aside_when_the_first_iteration_is_done(train, tmp_path):
    one = {'train_cfg.max_epochs': 1}
    train(tmp_path, {1: 0.1}, **one)
    before = listing(tmp_path)
    seen = []

    def prepare(runner):
        runner.register_hook(Spy())

    class Spy(work_dir.Hook):
        priority = 'HIGHEST'

        def after_train_iter(self, runner, *args, **kwargs):
            seen.append(listing(tmp_path) == before)

    # From a file of the folder itself, too, which is read before it is moved.
    train(tmp_path, prepare=prepare, load_from=str(tmp_path / 'epoch_1.pth'), **one)
    assert seen[0]
    (aside,) = tmp_path.glob('previous_*')
    assert listing(aside) == before
    assert {*listing(tmp_path)} == {'epoch_1.pth', 'last_checkpoint'}


@pytest.mark.parametrize(
    'options',
    [
        {'train_dataloader.dataset.data_root': '/nowhere'},
        {'load_from': '/nowhere.pth'},
        {'model.backbone.arch': 'huge'},
    ],
)
def test_a_start_that_fails_moves_nothing(train, tmp_path, options):
    for name in ('epoch_1.pth', BEST(1), 'last_checkpoint'):
        (tmp_path / name).write_text(name)
    before = listing(tmp_path)
    with pytest.raises(UserError):
        train(tmp_path, **options)
    assert listing(tmp_path) == before
    assert not [*tmp_path.glob('previous_*')]


@pytest.mark.slow
def test_going_back_sets_the_later_files_aside(train, tmp_path):
    """Or the next --resume would go on with the branch that was given up."""
    train(tmp_path, {1: 0.2, 2: 0.3}, **{'train_cfg.max_epochs': 2})
    first = (tmp_path / 'epoch_1.pth').read_bytes()
    train(tmp_path, resume=True, load_from=str(tmp_path / 'epoch_1.pth'))
    (aside,) = tmp_path.glob('previous_*')
    assert {*listing(aside)} == {'epoch_2.pth', BEST(2)}
    assert (tmp_path / 'epoch_1.pth').read_bytes() == first
    assert {*listing(tmp_path)} == {'epoch_1.pth', 'epoch_2.pth', 'last_checkpoint'}


# One run at a time.


def test_a_second_run_is_refused(train, tmp_path):
    lines = []

    def prepare(runner):
        before = {path: path.read_bytes() for path in tmp_path.glob('*') if path.is_file()}
        with work_dir.locked(str(tmp_path)), pytest.raises(ConfigError) as caught:
            runner.train()
        lines.append(str(caught.value))
        assert before == {path: path.read_bytes() for path in before}

    train(tmp_path, prepare=prepare, **{'train_cfg.max_epochs': 1})
    assert lines[0].startswith(
        f"'{tmp_path}' is in use by another training run (process {os.getpid()} on "
    )
    assert 'give another --work-dir' in lines[0]
    with work_dir.locked(str(tmp_path)):  # let go again
        pass


SLEEPER = """
import os, sys, time
from hrformer_mmpose.engine.work_dir import locked
with locked(sys.argv[1]):
    worker = os.fork()  # as data loading workers are
    if worker:
        print(worker, flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='Windows')
def test_the_lock_of_a_killed_run_does_not_count(tmp_path):
    command = [sys.executable, '-c', SLEEPER, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    worker = int(process.stdout.readline())
    try:
        with pytest.raises(ConfigError), work_dir.locked(str(tmp_path)):
            pass
        process.kill()
        process.wait()
        with work_dir.locked(str(tmp_path)):  # although the worker still lives
            os.kill(worker, 0)
    finally:
        os.kill(worker, signal.SIGKILL)


def _task(rank: int, size: int, folder: str, results) -> None:
    """A task as Slurm starts it: RANK is not set; the processes know each other by then."""
    os.environ.pop('RANK', None)
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/store', rank=rank, world_size=size
    )
    with ExitStack() as stack:
        try:
            work_dir.on_main_process(lambda: stack.enter_context(work_dir.locked(f'{folder}/work')))
            results.put('ran')
        except ConfigError as error:
            results.put(str(error))
        torch.distributed.barrier()


@pytest.mark.parametrize('busy', [False, True])
def test_eight_tasks_lock_once_and_are_refused_together(tmp_path, busy):
    (tmp_path / 'work').mkdir()
    context = multiprocessing.get_context('fork')
    results = context.Queue()
    with ExitStack() as stack:
        if busy:
            stack.enter_context(work_dir.locked(str(tmp_path / 'work')))
        tasks = [
            context.Process(target=_task, args=(rank, 8, str(tmp_path), results))
            for rank in range(8)
        ]
        for task in tasks:
            task.start()
        answers = [results.get(timeout=100) for _ in tasks]
        for task in tasks:
            task.join(timeout=100)
    assert [task.exitcode for task in tasks] == [0] * 8
    assert len({*answers}) == 1
    assert ('in use by another' in answers[0]) == busy


# After kills.


def test_what_a_kill_left_undone_is_done_when_the_run_resumes(train, tmp_path, monkeypatch):
    """Killed before the best network's predecessor is removed, and with a pointer a file behind."""
    scores = {1: 0.1, 2: 0.2, 3: 0.1}
    folder = tmp_path / 'work'
    remove = checkpoint_hook.CheckpointHook._remove

    def killed(self, path):
        raise Killed

    monkeypatch.setattr(checkpoint_hook.CheckpointHook, '_remove', killed)
    with pytest.raises(Killed):
        train(folder, scores)
    assert {BEST(1), BEST(2)} <= {*listing(folder)}
    (folder / 'last_checkpoint').write_text(str(folder / 'epoch_1.pth'))
    monkeypatch.setattr(checkpoint_hook.CheckpointHook, '_remove', remove)
    runner = train(folder, scores, resume=True)  # which has nothing left to train
    assert {*listing(folder)} == {'epoch_1.pth', 'epoch_2.pth', BEST(2), 'last_checkpoint'}
    assert (folder / 'last_checkpoint').read_text() == str(folder / 'epoch_2.pth')
    assert list(runner.message_hub.get_scalar('val/coco/AP').data[0]) == [0.1, 0.2]


@pytest.mark.slow
def test_a_validation_that_is_repeated_is_logged_once(train, tmp_path, monkeypatch):
    """Killed after the log has the validation, before the best network's file is there."""
    folder, save = tmp_path / 'work', checkpoint_hook.CheckpointHook._save_best_checkpoint

    def killed(self, *args, **kwargs):
        raise Killed

    monkeypatch.setattr(checkpoint_hook.CheckpointHook, '_save_best_checkpoint', killed)
    with pytest.raises(Killed):
        train(folder, {1: 0.1, 2: 0.2})
    monkeypatch.setattr(checkpoint_hook.CheckpointHook, '_save_best_checkpoint', save)
    train(folder, {1: 0.1, 2: 0.2}, resume=True)
    assert {BEST(2)} <= {*listing(folder)}
    lines = [
        json.loads(line)
        for path in folder.glob('*/vis_data/scalars.json')
        for line in path.read_text().splitlines()
    ]
    assert sorted(line['step'] for line in lines if 'coco/AP' in line) == [1, 2]


@pytest.mark.slow
def test_killed_at_every_step_on_files(train, tmp_path, monkeypatch):
    """The files at the end, and what the last one knows, are those of the run without a kill."""
    scores = {1: 0.1, 2: 0.2, 3: 0.15}
    options = {'train_cfg.max_epochs': 3, 'default_hooks.checkpoint.max_keep_ckpts': 1}
    train(tmp_path / 'straight', scores, **options)
    expected = torch.load(tmp_path / 'straight/epoch_3.pth')
    left = [0]  # steps until the kill
    for name in ('replace', 'remove'):
        monkeypatch.setattr(os, name, _counted(getattr(os, name), left))
    moment = 0
    while True:
        folder = tmp_path / f'killed{moment}'
        left[0] = moment
        try:
            train(folder, scores, **options)
            break
        except Killed:
            left[0] = 10**6
        train(folder, scores, resume=True, **options)
        assert {*listing(folder)} == {*listing(tmp_path / 'straight')}, moment
        assert (folder / 'last_checkpoint').read_text() == str(folder / 'epoch_3.pth')
        content = torch.load(folder / 'epoch_3.pth')
        for key, value in expected['state_dict'].items():
            assert torch.equal(content['state_dict'][key], value)
        for key in ('val/coco/AP', 'train/loss'):
            ours, theirs = (c['message_hub']['log_scalars'][key] for c in (content, expected))
            assert torch.equal(ours['values'], theirs['values']), (moment, key)
        moment += 1
    assert moment > 10


def _counted(function, left):
    def call(*args, **kwargs):
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return function(*args, **kwargs)

    return call
