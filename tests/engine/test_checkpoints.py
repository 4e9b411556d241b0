"""Checkpoints in the tools' hands: exchange with MMPose's runner, a full disk, bad files."""

import copy
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip('mmpose')
import mmengine
from mmengine.config import Config
from mmengine.logging import HistoryBuffer

from hrformer_mmpose import zoo
from hrformer_mmpose.checkpoint import load_weights, origin, save_weights, to_official
from hrformer_mmpose.cli import convert_checkpoint, terminal, test, train
from hrformer_mmpose.engine import training_state
from hrformer_mmpose.engine.runner import Runner
from hrformer_mmpose.engine.training_state import from_plain, to_plain
from tests.checkpoint.weights import official_weights, tiny_hrformer
from tests.conftest import ROOT, relative_error
from tests.engine.test_resume import CONFIG

ARCH = dict(
    stage1=dict(num_modules=1, num_branches=1, block='BOTTLENECK', num_blocks=(1,),
                num_channels=(64,), num_heads=[1], mlp_ratios=[4]),
    **{f'stage{n}': dict(num_modules=1, num_branches=n, block='HRFORMERBLOCK',
                         num_blocks=(1,) * n, num_channels=(4, 8, 8, 8)[:n],
                         num_heads=[1, 2, 2, 2][:n], mlp_ratios=[4] * n, window_sizes=[7] * n)
       for n in (2, 3, 4)},
)  # fmt: skip


# Worker processes take seconds to leave; validation is on annotated boxes.
NO_WORKERS = """
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(bbox_file=None))
test_dataloader = val_dataloader
"""


@pytest.fixture
def config(tmp_path, synthetic_root, monkeypatch) -> Config:
    """Ours, of a moment; one epoch of a few iterations."""
    monkeypatch.setenv('DEMO_ROOT', str(synthetic_root))
    monkeypatch.setenv('COCO_ROOT', str(synthetic_root))
    path = tmp_path / 'tiny.py'
    text = CONFIG.format(workers=0, persistent=False)
    # MMPose's backbone runs at multiples of 32 only.
    text = text.replace(
        'quickstart/hrformer_tiny_demo_112x84', 'hrformer_tiny_coco_256x192'
    ).replace('(4,)', 'None')
    path.write_text(text + NO_WORKERS)
    cfg = Config.fromfile(path)
    cfg.work_dir = str(tmp_path / 'work')
    cfg.train_cfg.max_epochs = 1
    cfg.custom_hooks = []
    cfg.experiment_name = tmp_path.name
    return cfg


def mmposes(cfg: Config) -> Config:
    """The same run with MMPose's own classes wherever it has one."""
    cfg = copy.deepcopy(cfg)
    cfg.work_dir += '_mmpose'
    cfg.experiment_name += '_mmpose'
    cfg.pop('runner_type')
    cfg.train_cfg = dict(by_epoch=True, max_epochs=1, val_interval=1)
    backbone = dict(type='HRFormer', extra=dict(drop_path_rate=0.1, with_rpe=True, **ARCH))
    backbone['norm_cfg'] = dict(type='BN')
    cfg.model.backbone = backbone
    cfg.model.head.type = 'HeatmapHead'
    cfg.model.head.decoder.type = cfg.codec.type = 'MSRAHeatmap'
    (target,) = [t for t in cfg.train_dataloader.dataset.pipeline if t.type == 'GenerateTarget']
    target.encoder.type = 'MSRAHeatmap'
    cfg.model.test_cfg.shift_heatmap = True
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', interval=1)
    cfg.train_dataloader.sampler.type = 'DefaultSampler'
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.type = 'CocoDataset'
        loader.dataset.pipeline[0].type = 'LoadImage'
    return cfg


@torch.no_grad()
def heatmaps(runner) -> torch.Tensor:
    image = torch.randn(2, 3, 128, 96, generator=torch.Generator().manual_seed(0))
    runner.model.eval()
    return runner.model.head(runner.model.backbone(image))


@pytest.mark.slow
def test_files_go_from_mmposes_runner_to_ours_and_back(config, monkeypatch):
    theirs = mmengine.runner.Runner.from_cfg(mmposes(config))
    theirs.train()
    path = f'{theirs.work_dir}/epoch_1.pth'
    ours = Runner.from_cfg(config)
    ours.load_checkpoint(path)
    assert relative_error(heatmaps(ours), heatmaps(theirs)) < 1e-5

    # Their training state, too: our run goes on with their second epoch.
    config.update(resume=True, load_from=path, work_dir=config.work_dir + '_resumed')
    config.train_cfg.max_epochs = 2
    config.experiment_name += '_resumed'
    resumed = Runner.from_cfg(config)
    resumed.train()
    assert resumed.epoch == 2
    history = resumed.message_hub.log_scalars['train/loss']
    assert len(history.data[0]) == resumed.iter  # both epochs' values

    # And our file, read as PyTorch reads any file by default, in a runner that we have no hand in.
    ours_path = f'{resumed.work_dir}/epoch_2.pth'
    theirs.load_checkpoint(ours_path)
    assert relative_error(heatmaps(theirs), heatmaps(resumed)) < 1e-5


def test_mmposes_tool_builds_our_runner(config):
    assert config.runner_type == 'hrformer_mmpose.Runner'
    assert type(mmengine.registry.RUNNERS.build(config)) is Runner


def test_a_training_state_becomes_plain_and_comes_back(tmp_path):
    state = dict(
        message_hub=dict(
            log_scalars=dict(loss=HistoryBuffer([1.0, 2.5], [1, 2], 7)),
            runtime_info=dict(best=np.float64(0.5), ids=[1, 2], name='x', none=None),
            resumed_keys=dict(loss=True),
        ),
        meta=dict(dataset_meta=dict(sigmas=np.ones(3, np.float32), pairs=[(0, 1)])),
        optimizer=dict(state={0: dict(step=torch.tensor(3.0))}, loss_scaler=dict(scale=65536.0)),
    )
    torch.save(to_plain(state), tmp_path / 'state.pth')
    back = torch.load(tmp_path / 'state.pth', weights_only=True)
    from_plain(back)
    buffer = back['message_hub']['log_scalars']['loss']
    assert buffer.mean() == pytest.approx(3.5 / 3)
    assert buffer.max_length == 7
    assert back['message_hub']['runtime_info'] == dict(best=0.5, ids=[1, 2], name='x', none=None)
    assert back['meta']['dataset_meta']['sigmas'].dtype == np.float32
    assert back['meta']['dataset_meta']['pairs'] == [(0, 1)]
    assert back['optimizer'] == state['optimizer']


def test_what_no_safe_load_takes_is_left_out_aloud(monkeypatch):
    lines = []
    monkeypatch.setattr(training_state, 'print_log', lambda line, **_: lines.append(line))
    plain = to_plain(dict(meta=dict(hook=object(), kept=1)))
    assert plain == dict(meta=dict(kept=1))
    assert lines == ['checkpoint.meta.hook is of type object, which a safe load refuses: not saved']


@pytest.mark.slow
def test_no_step_of_saving_removes_what_is_not_replaced(config, monkeypatch):
    """Wherever a run ends while it saves, the newest complete file and the best one are there."""
    config.train_cfg = dict(max_epochs=2, val_interval=1)
    config.default_hooks.checkpoint.max_keep_ckpts = 1
    runner = Runner.from_cfg(config)
    scores = iter([{'coco/AP': 0.1}, {'coco/AP': 0.2}])
    runner.val_loop.evaluator.evaluate = lambda size: next(scores)
    folder = Path(runner.work_dir)
    steps = []
    save = Runner.save_checkpoint

    def spy(self, out_dir, filename, *args, **kwargs):
        before = {path.name for path in folder.glob('*.pth')}
        save(self, out_dir, filename, *args, **kwargs)
        steps.append((filename, before, {path.name for path in folder.glob('*.pth')}))
        if len(steps) > 1:
            assert Path((folder / 'last_checkpoint').read_text()).exists()

    monkeypatch.setattr(Runner, 'save_checkpoint', spy)
    runner.train()
    best = 'best_coco_AP_epoch_{}.pth'.format
    assert [name for name, _, _ in steps] == [
        'epoch_1.pth', best(1), 'epoch_1.pth', 'epoch_2.pth', best(2), 'epoch_2.pth'
    ]  # fmt: skip
    assert all(before <= after for _, before, after in steps)
    assert 'epoch_1.pth' in steps[3][2]  # until its successor is complete
    assert best(1) in steps[5][2]  # until the file that knows of its successor is complete
    assert {path.name for path in folder.glob('*.pth')} == {'epoch_2.pth', best(2)}
    assert (folder / 'last_checkpoint').read_text() == str(folder / 'epoch_2.pth')


@pytest.mark.slow
def test_a_folder_of_its_own_for_checkpoints_is_found_again(config, tmp_path):
    config.default_hooks.checkpoint.out_dir = str(tmp_path / 'elsewhere')
    first = Runner.from_cfg(config)
    first.train()
    file = tmp_path / 'elsewhere' / Path(first.work_dir).name / 'epoch_1.pth'
    assert file.exists()
    # Weights of other files do not hide it.
    save_weights(first.model.state_dict(), Path(first.work_dir) / 'pretrained.pth', 'mmpose')
    config.update(resume=True, experiment_name=config.experiment_name + '_resumed')
    again = Runner.from_cfg(config)
    assert again._search() == str(file)


# What the tools answer to a file that is of no use: one line, nothing loaded.


def tool(monkeypatch, module, parser, *arguments) -> str:
    """Run a tool in this process; return the line it ends with ('' when all went well)."""
    monkeypatch.setattr(sys, 'argv', ['tool.py', *map(str, arguments)])
    try:
        terminal.run(module, parser)
    except SystemExit as end:
        return str(end.code)
    return ''


DEMO = zoo.find('hrformer_tiny_demo_112x84')


@pytest.mark.parametrize('way', ['test', 'load_from', 'resume', 'init_cfg'])
def test_bad_files_by_every_way_in(monkeypatch, synthetic_root, tmp_path, way):
    """The ways share their reader; tests/checkpoint has all the reasons."""
    monkeypatch.setenv('DEMO_ROOT', str(synthetic_root))
    bad = tmp_path / 'bad.pth'
    torch.save(official_weights(), tmp_path / 'other.pth')
    torch.save({'weight': torch.randn(10000)}, bad)
    bad.write_bytes(bad.read_bytes()[:20000])
    for path, says in (
        (bad, 'is damaged'),
        (tmp_path / 'other.pth', 'the config builds HRFormer-T'),
    ):
        options = {
            'test': [DEMO, path],
            'load_from': [DEMO, '--cfg-options', f'load_from={path}'],
            'resume': [DEMO, '--resume', path],
            'init_cfg': [
                DEMO,
                '--cfg-options',
                'model.backbone.init_cfg.type=Pretrained',
                f'model.backbone.init_cfg.checkpoint={path}',
            ],
        }[way]
        options += ['--work-dir', tmp_path / f'{way}_{path.stem}']
        is_test = way == 'test'
        command = test if is_test else train
        line = tool(monkeypatch, command.run, command.parser(), *options)
        assert line.startswith('error: ')
        assert says in line
        assert str(path) in line
        assert '\n' not in line


@pytest.mark.slow
def test_every_published_kind_tests_and_resumes(monkeypatch, synthetic_root, tmp_path, config):
    """An authors' whole pose file goes through tools/test.py and --resume without a flag."""
    runner = Runner.from_cfg(config)
    state = runner.model.state_dict()
    path = tmp_path / 'authors.pth'
    torch.save({'state_dict': to_official(state), 'meta': {'epoch': 210}}, path)
    config_path = tmp_path / 'tiny.py'
    options = ['--work-dir', tmp_path / 'out']
    out = tmp_path / 'out.json'
    line = tool(monkeypatch, test.run, test.parser(), config_path, path, '--out', out, *options)
    assert line == ''
    assert 'coco/AP' in mmengine.load(out)
    line = tool(
        monkeypatch, train.run, train.parser(), config_path, '--resume', path, *options,
        '--cfg-options', 'train_cfg.max_epochs=1',
    )  # fmt: skip
    assert line == ''
    assert (tmp_path / 'out/epoch_1.pth').exists()
    assert 'no state of a training run' in ''.join(
        log.read_text() for log in (tmp_path / 'out').glob('*/*.log')
    )


# tools/convert_checkpoint.py


def convert_tool(monkeypatch, *arguments) -> str:
    return tool(monkeypatch, convert_checkpoint.run, convert_checkpoint.parser(), *arguments)


@pytest.mark.parametrize('ending', ['pth', 'safetensors'])
def test_converting_there_and_back(monkeypatch, tmp_path, capsys, ending):
    weights = official_weights()
    source, ours, back = (tmp_path / f'{name}.{ending}' for name in ('source', 'ours', 'back'))
    save_weights(weights, source, 'official-pose')
    assert convert_tool(monkeypatch, source, ours) == ''
    printed = capsys.readouterr().out
    assert 'origin        official-pose' in printed
    assert 'architecture  HRFormer(' in printed
    count = sum(p.numel() for p in tiny_hrformer().parameters())
    assert f'parameters    {count:,}' in printed
    assert hashlib.sha256(ours.read_bytes()).hexdigest() in printed
    assert origin(load_weights(ours)) == 'mmpose'
    assert convert_tool(monkeypatch, ours, back, '--to', 'official') == ''
    final = load_weights(back)
    assert final.keys() == weights.keys()
    assert all(torch.equal(final[key], weights[key]) for key in weights)


def test_the_authors_code_finds_the_weights_where_it_looks(monkeypatch, tmp_path):
    source = tmp_path / 'source.pth'
    for extra, wrapper in (({}, 'state_dict'), ({'classifier.weight': torch.ones(2)}, 'model')):
        torch.save({**official_weights(), **extra}, source)
        ours, back = tmp_path / f'{wrapper}.pth', tmp_path / f'{wrapper}_back.pth'
        assert convert_tool(monkeypatch, source, ours) == ''
        assert convert_tool(monkeypatch, ours, back, '--to', 'official') == ''
        assert wrapper in torch.load(back, weights_only=True)


def test_converting_overwrites_only_when_told(monkeypatch, tmp_path):
    source, target = tmp_path / 'source.pth', tmp_path / 'target.pth'
    torch.save(official_weights(), source)
    target.write_text('mine')
    assert '--force' in convert_tool(monkeypatch, source, target)
    assert '--force' in convert_tool(monkeypatch, source, source)
    assert target.read_text() == 'mine'
    assert convert_tool(monkeypatch, source, target, '--force') == ''
    assert 'must end in' in convert_tool(monkeypatch, source, tmp_path / 'target.bin')
    assert 'does not exist' in convert_tool(monkeypatch, source, tmp_path / 'no/target.pth')
    torch.save({'layer4.0.conv1.weight': torch.ones(1)}, source)
    line = convert_tool(monkeypatch, source, tmp_path / 'new.pth')
    names = 'an HRFormer, TokenPose, TransPose or PRTR'
    assert line == f"error: '{source}' holds ResNet, not {names}"
    weights = official_weights()
    torch.save({**weights, 'conv1.weight': weights['conv1.weight'].char()}, source)
    assert 'conv1.weight as int8' in convert_tool(monkeypatch, source, tmp_path / 'new.pth')
    del weights['stage2.0.branches.0.0.attn.attn.k_proj.bias']
    torch.save(weights, source)
    for names in ('mmpose', 'official'):
        line = convert_tool(monkeypatch, source, tmp_path / 'new.pth', '--to', names)
        assert line.startswith(f"error: '{source}': stage2.0.branches.0.0.attn.attn.k_proj.bias is")
    assert not (tmp_path / 'new.pth').exists()


@pytest.fixture
def small_disk(tmp_path):
    """A file system with room for one checkpoint of 3.5 MB."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=6m', 'tmpfs', str(folder)]
    if shutil.which('mount') is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip('mounting a small file system needs root')
    yield folder
    subprocess.run(['umount', str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk(small_disk, tmp_path, synthetic_root):
    """Training stops with a clear line; what was saved before is intact and goes on."""
    work_dir = small_disk / 'work'
    config = tmp_path / 'tiny.py'
    config.write_text(CONFIG.format(workers=0, persistent=False))
    command = [sys.executable, 'tools/train.py', config, '--work-dir', work_dir]
    environment = {**os.environ, 'DEMO_ROOT': str(synthetic_root), 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1
    assert 'Traceback' not in done.stdout + done.stderr
    line = done.stderr.strip().splitlines()[-1]
    saved = sorted(path.name for path in work_dir.glob('epoch_*'))
    assert saved, 'not even one file fitted'
    assert re.match(r"error: cannot save '.*/epoch_\d.pth': No space left on device", line)
    assert f"'{work_dir / saved[-1]}': --resume goes on" in line
    assert torch.load(work_dir / saved[-1], weights_only=True)['meta']['iter'] > 0
    assert (work_dir / 'last_checkpoint').read_text() == str(work_dir / saved[-1])
    assert not [*work_dir.glob('*.partial')]
