"""A config's mistakes are one line before a run; no config that is published is refused."""

import math
from pathlib import Path

import mmpose
import pytest
from mmengine.config import Config, ConfigDict

from hrformer_mmpose import zoo
from hrformer_mmpose.cli.config_checks import check
from hrformer_mmpose.cli.key_checks import check_option_names
from hrformer_mmpose.errors import ConfigError

OURS = [Path(zoo.find(name)) for name in zoo.names()]
THEIRS = Path(mmpose.__file__).parent / '.mim/configs'
METAINFO = THEIRS / '_base_/datasets/coco.py'


@pytest.fixture
def cfg() -> Config:
    return Config.fromfile(zoo.find('hrformer_tiny_demo_112x84'))


def refusal(cfg: Config, uses=('train', 'val')) -> str:
    with pytest.raises(ConfigError) as caught:
        check(cfg, uses)
    text = str(caught.value)
    assert '\n' not in text
    return text


def uses_of(cfg: Config) -> list[str]:
    return [use for use in ('train', 'val', 'test') if cfg.get(f'{use}_dataloader')]


# Twins of another codec or recipe are checked in the slow tests.
@pytest.mark.parametrize(
    'path',
    [
        pytest.param(path, marks=pytest.mark.slow)
        if path.stem.endswith(('_adam', '_dark', '_udp'))
        else path
        for path in OURS
    ],
    ids=lambda path: path.stem,
)
def test_our_configs_pass(path):
    cfg = Config.fromfile(path)
    before = cfg.to_dict()
    check(cfg, uses_of(cfg))
    assert cfg.to_dict() == before


def test_mmposes_configs_of_hrnet_for_coco_pass():
    paths = sorted(THEIRS.glob('body_2d_keypoint/topdown_heatmap/coco/td-hm_hr*.py'))
    assert len(paths) > 10
    for path in paths:
        check(Config.fromfile(path), ('train', 'val', 'test'))


UNUSABLE = {
    'edpose_res50_8xb2-50e_coco-800x1333.py',  # names a file that MMPose's wheel has elsewhere
    'yoloxpose_tiny_4xb64-300e_coco-416.py',  # with an argument that its class lacks
}


@pytest.mark.slow
@pytest.mark.parametrize('folder', sorted(p.name for p in THEIRS.glob('*') if p.name[0] != '_'))
def test_mmposes_configs_pass(folder):
    for path in sorted((THEIRS / folder).rglob('*.py')):
        if path.name in UNUSABLE:
            continue
        cfg = Config.fromfile(path)
        check(cfg, uses_of(cfg))


# Entries as --cfg-options writes them, and what the line must hold.
WRONG = {
    'default_hooks.checkpooint.interval=2': 'default_hooks.checkpooint has no effect',
    'default_hooks.checkpooint.type=CheckpointHook': "did you mean 'checkpoint'?",
    'model.test_cfg.fllip_test=True': "fllip_test has no effect: did you mean 'flip_test'?",
    'env_cfg.cudnn_benchmrk=True': "did you mean 'cudnn_benchmark'?",
    'train_cfg.max_epoch=3': "train_cfg.max_epoch has no effect: did you mean 'max_epochs'?",
    'train_cfg.max_epochs=None': 'train_cfg has no max_epochs',
    'train_cfg.max_epochs=0': 'train_cfg.max_epochs=0 must be a whole number, at least 1',
    'train_cfg.val_interval=0': 'train_cfg.val_interval=0',
    'train_cfg.by_epoch=False': 'train_cfg has no max_iters',
    'train_cfg=3': 'train_cfg must be a dict',
    'train_dataloader.batch_size=0': 'train_dataloader.batch_size=0 must be a whole number',
    'val_dataloader.batch_size=1.5': 'val_dataloader.batch_size=1.5',
    'train_dataloader.batch_size=True': 'train_dataloader.batch_size=True',
    'train_dataloader.batch_size=None': 'train_dataloader has no batch_size',
    'train_dataloader.num_workers=99999': 'num_workers=99999: there can be 1024 at most',
    'train_dataloader.persistent_workers=True': 'persistent_workers=True needs num_workers',
    'train_dataloader=None': 'the config has train_cfg and optim_wrapper, but no train_dataloader',
    'val_evaluator=None': 'but no val_evaluator',
    'optim_wrapper.optimizer.lr=nan': 'optim_wrapper.optimizer.lr is not a number (NaN)',
    'optim_wrapper.optimizer.lr=inf': 'optim_wrapper.optimizer.lr=inf must be a number',
    'optim_wrapper.optimizer.lr=5e-4x': "optim_wrapper.optimizer.lr='5e-4x' must be a number",
    'optim_wrapper.optimizer.weight_decay=-1': 'weight_decay=-1 must be a number, at least 0',
    'param_scheduler.0.start_factor=nan': 'param_scheduler[0].start_factor is not a number',
    'optim_wrapper.optimizer=None': 'optim_wrapper.optimizer must be a dict with a `type`',
    'model=HRFormer': "model must be a dict with a `type`, it is 'HRFormer'",
    'model.head.type=None': 'model.head has no `type`',
    'custom_hooks=EMAHook': "custom_hooks must be a list, it is 'EMAHook'",
    'model.head.out_channels=16': 'have 17 keypoints: set it to 17',
    'model.head.out_channels=x': "model.head.out_channels='x' must be a whole number",
    'val_evaluator.sigmas=[0.1,0.2]': 'val_evaluator has 2 sigmas for 17 keypoints',
    'train_dataloader.dataset.metainfo.from_file=no.py': "metainfo file 'no.py' does not exist",
    'default_hooks.checkpoint.save_best=coco/APP': "save_best='coco/APP' is not one of the metrics",
    'log_level=LOUD': "log_level='LOUD' is not one of DEBUG",
    'resume=epoch_1.pth': "resume='epoch_1.pth' is not True or False",
    'randomness.seed=x': "randomness.seed='x' must be a whole number",
    # Arguments that the class named by `type` does not have, or of another type.
    'param_scheduler.1.type=MultiStepLR': (
        "param_scheduler[1]: MultiStepLR has no argument 'T_max'"
    ),
    'optim_wrapper.optimizer.type=SGD': "optim_wrapper.optimizer: SGD has no argument 'betas'",
    'default_hooks.checkpoint.type=LoggerHook': (
        "default_hooks.checkpoint: LoggerHook has no argument 'max_keep_ckpts'"
    ),
    'train_dataloader.dataset.pipeline.2.type=TopdownAffine': (
        "train_dataloader.dataset.pipeline[2]: TopdownAffine has no argument 'direction'"
    ),
    'model.head.type=RTMCCHead': "model.head: RTMCCHead has no argument 'deconv_out_channels'",
    'val_evaluator.type=PCKAccuracy': "val_evaluator: PCKAccuracy has no argument 'ann_file'",
    'train_dataloader.batchsize=3': (
        "train_dataloader: DataLoader has no argument 'batchsize': did you mean 'batch_size'?"
    ),
    'train_cfg.foo=3': "train_cfg: EpochBasedTrainLoop has no argument 'foo'",
    'param_scheduler.0.begin=x': "param_scheduler[0].begin='x' must be of type int",
    'param_scheduler.1.eta_min=x': "param_scheduler[1].eta_min='x' must be of type Opt",
    'default_hooks.checkpoint.interval=x': "checkpoint.interval='x' must be of type int (Check",
    'train_dataloader.dataset.pipeline.3.scale_factor=x': "pipeline[3].scale_factor='x' must be",
    'model.head.deconv_out_channels=inf': 'model.head.deconv_out_channels=inf must be of type',
    'model.head.deconv_out_channels=(inf,)': 'model.head.deconv_out_channels=(inf,) must be of',
    'model.backbone.norm_cfg=3': 'model.backbone.norm_cfg=3 must be of type dict (HRFormer)',
    'model.test_cfg=3': 'model.test_cfg must be a dict, it is 3',
    'model.test_cfg.flip_mode=x': "model.test_cfg.flip_mode='x' must be of type Literal['heatmap'",
    'model.test_cfg.scales=0.5': 'model.test_cfg.scales=0.5 must be of type Sequence[float]',
    'model.test_cfg.flip=x': "model.test_cfg.flip='x' must be of type bool",
    'env_cfg.mp_cfg.opencv_num_threads=[1]': 'env_cfg.mp_cfg.opencv_num_threads=[1] must be of',
    'env_cfg.mp_cfg.mp_start_method=x': "mp_start_method='x' must be of type Literal['fork', ",
    'env_cfg.mp_cfg=3': 'env_cfg.mp_cfg must be a dict, it is 3',
    'optim_wrapper.paramwise_cfg.custom_keys.x=[1]': 'custom_keys.x must be a dict, it is [1]',
    'log_level=[INFO]': "log_level=['INFO'] is not one of DEBUG",
    'log_processor.window_size=x': "log_processor.window_size='x' must be of type int",
    'val_cfg.fp16=x': "val_cfg.fp16='x' must be of type bool (ValLoop)",
    'train_dataloader.drop_last=x': "train_dataloader.drop_last='x' must be of type bool",
    'work_dir=3': 'work_dir=3 must be a text',
    'default_scope=3': 'default_scope=3 must be a text',
    'model.type=3': 'model.type=3 must be the name of a class',
    'train_cfg.type=ValLoop': 'train_cfg has both type and by_epoch: leave one of them out',
    'auto_scale_lr.base_batch_size=x': "auto_scale_lr.base_batch_size='x' must be a whole number",
    'default_hooks.timer=IterTimerHook': 'default_hooks.timer must be a dict with a `type`',
    'val_evaluator=[3]': 'val_evaluator[0] must be a dict with a `type`, it is 3',
}


@pytest.mark.parametrize('entry', WRONG)
def test_a_wrong_entry_is_named(cfg, entry):
    key, _, value = entry.partition('=')
    zoo.merge_options(cfg, {key: cli_value(value)})
    assert WRONG[entry] in refusal(cfg)


def cli_value(text: str):
    from mmengine.config import DictAction

    return DictAction._parse_iterable(text)


@pytest.mark.parametrize(
    'path',
    [
        'model', 'model.backbone', 'model.data_preprocessor', 'visualizer', 'param_scheduler.0',
        'custom_hooks.0', 'default_hooks.timer', 'optim_wrapper.optimizer', 'vis_backends.0',
        'train_dataloader.dataset', 'train_dataloader.sampler', 'val_evaluator',
        'train_dataloader.dataset.pipeline.2', 'val_dataloader.dataset.pipeline.0',
    ],
)  # fmt: skip
def test_a_dict_without_type_is_named_by_its_place(cfg, path):
    settings = cfg
    for key in path.split('.'):
        settings = settings[int(key) if key.isdecimal() else key]
    settings.pop('type')
    *place, last = path.split('.')
    name = '.'.join(place) + f'[{last}]' if last.isdecimal() else path
    assert refusal(cfg).startswith(f'{name} has no `type`, which names the class to build')


def test_a_misspelt_entry_of_a_config_beside_the_right_one(cfg):
    cfg.optim_wraper = dict(optimizer=dict(lr=1))
    assert refusal(cfg) == "optim_wraper has no effect: did you mean 'optim_wrapper'?"


@pytest.mark.parametrize(('name', 'meant'), [('modle', 'model'), ('models', 'model')])
def test_a_misspelt_model(cfg, name, meant):
    cfg = Config({name if key == 'model' else key: value for key, value in cfg.items()})
    assert refusal(cfg) == f"{name} has no effect: did you mean '{meant}'?"


def test_no_model(cfg):
    cfg = Config({key: value for key, value in cfg.items() if key != 'model'})
    assert refusal(cfg) == 'the config has no model'


def test_a_configs_own_variables_are_not_refused(cfg):
    """Near misses of known keys that something uses, and variants that are meant."""
    cfg.custom_hook = cfg.custom_hooks[0]
    cfg.val_dataloader_2 = cfg.coco_val_dataloader = dict(a=1)
    cfg.modes = 'topdown'
    cfg.default_hooks.checkpoint_2 = dict(type='CheckpointHook')
    check(cfg)


def test_only_what_runs_is_checked(cfg):
    cfg.optim_wrapper.optimizer.type = None
    check(cfg, ('test',))
    assert 'optim_wrapper.optimizer has no `type`' in refusal(cfg)
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None  # as --no-validate
    cfg.optim_wrapper.optimizer.type = 'AdamW'
    check(cfg)
    cfg.test_cfg = cfg.test_dataloader = cfg.test_evaluator = None
    check(cfg)
    assert 'nothing to test with' in refusal(cfg, ('test',))


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ("dataset_info['sigmas'] = dataset_info['sigmas'][:10]", 'has 10 sigmas for 17 keypoints'),
        ("dataset_info['joint_weights'] = [1.0]", 'has 1 joint_weights for 17 keypoints'),
        ("del dataset_info['sigmas']", 'lacks one of dataset_name, '),
        ('del dataset_info', 'cannot be used: AttributeError: '),
        ('dataset_info = dict(', 'cannot be used: SyntaxError'),
    ],
)
def test_a_metainfo_file_is_checked(cfg, tmp_path, change, words):
    path = tmp_path / 'metainfo.py'
    path.write_text(f'{METAINFO.read_text()}\n{change}\n')
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.metainfo = dict(from_file=str(path))
    assert f"metainfo file '{path}' {words}" in refusal(cfg)


def test_heads_of_other_keypoints_on_purpose(cfg):
    """Converted data, a metric that converts, UDP's three maps a keypoint."""
    step = dict(type='KeypointConverter', num_keypoints=16, mapping=[(i, i) for i in range(16)])
    converted = Config(cfg.to_dict())
    converted.model.head.out_channels = 16
    converted.train_dataloader.dataset.pipeline.insert(1, ConfigDict(step))
    converted.val_evaluator.pred_converter = dict(num_keypoints=17, mapping=[(0, 0)])
    check(converted)
    cfg.model.head.decoder.update(type='UDPHeatmap', heatmap_type='combined')
    assert 'set it to 51' in refusal(cfg)
    cfg.model.head.out_channels = 51
    check(cfg)


def test_a_config_of_mmpose_0():
    cfg = Config(dict(model=dict(type='TopDown'), data=dict(train={}), total_epochs=210))
    assert 'MMPose 0.x' in refusal(cfg)


def test_nan_anywhere_in_the_network(cfg):
    cfg.model.backbone.drop_path_rate = math.nan
    assert refusal(cfg) == 'model.backbone.drop_path_rate is not a number (NaN)'


@pytest.mark.parametrize(
    ('key', 'meant'),
    [('batch_size', ''), ('optim_wraper.optimizer.lr', 'optim_wrapper'), ('data_rot', 'data_root')],
)
def test_an_option_that_nothing_reads(cfg, key, meant):
    with pytest.raises(ConfigError) as caught:
        check_option_names(cfg, [key])
    assert str(caught.value).startswith(f"--cfg-options {key}: the config has no '")
    assert meant in str(caught.value)


@pytest.mark.parametrize(
    ('key', 'entries'),
    [
        ('codec.sigma', '(model.head.decoder, train_dataloader.dataset.pipeline.'),
        ('max_epochs', '(train_cfg.max_epochs'),
        ('data_root', '(train_dataloader.dataset.data_root, '),
    ],
)
def test_an_option_for_a_variable_names_the_entries_that_use_it(key, entries):
    cfg = zoo.read_config('hrformer_tiny_demo_112x84')
    with pytest.raises(ConfigError, match=f'^--cfg-options {key}: .* is a variable') as caught:
        check_option_names(cfg, [key])
    assert entries in str(caught.value)


def test_options_that_a_config_need_not_have(cfg):
    check_option_names(cfg, ['randomness.seed', 'find_unused_parameters'])


@pytest.mark.parametrize('key', ['train_cfg.max_epochs.x', 'param_scheduler.9.begin'])
def test_an_option_that_leads_nowhere(cfg, key):
    with pytest.raises(ConfigError, match=f'--cfg-options {key}: '):
        zoo.merge_options(cfg, {key: 1})


def test_keypoints_and_queries_of_prtr():
    cfg = zoo.read_config('prtr_res50_coco_384x288')
    check(cfg)
    cfg.model.head.num_joints = 16
    assert 'model.head.num_joints=16, but the data of train_dataloader have 17' in refusal(cfg)
    cfg.model.head.num_queries = 0
    assert 'model.head.num_queries=0 must be a whole number, at least 1' in refusal(cfg)
