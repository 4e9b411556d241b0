"""From parsed arguments to a run of MMEngine's runner.

A tool's way: config file -> command line merged into it -> processes joined -> Runner. The order
of precedence is MMPose's: command line, config, default.
"""

import argparse
import difflib
import os
import os.path as osp
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from .. import host
from ..errors import ConfigError, WeightsError
from . import cli
from .config_checks import KNOWN, check
from .hooks import CompileHook, FuseHook, ReportHook
from .optim_wrapper import autocast_dtype

FORMATS = ('.json', '.yaml', '.yml', '.pkl', '.pickle')
ENVIRONMENT = {  # what each launcher sets
    'none': (),
    'pytorch': ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'),
    'slurm': ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST'),
    'mpi': ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK'),
}


def train(args: argparse.Namespace) -> None:
    """Train as `cli.train_parser` describes."""
    cfg = load_config(args)
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.amp or args.amp_dtype:
        cfg.optim_wrapper.type = 'hrformer_mmpose.AutoAmpOptimWrapper'
        cfg.optim_wrapper.dtype = args.amp_dtype or 'auto'
    if args.resume is not None:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else _existing(args.resume)
    if args.auto_scale_lr:
        if 'auto_scale_lr' not in cfg:
            raise ConfigError(f'{args.config}: --auto-scale-lr needs auto_scale_lr.base_batch_size')
        cfg.auto_scale_lr.enable = True
    cfg.merge_from_dict(args.cfg_options)
    if not cfg.get('resume') and int(os.environ.get('RANK', 0)) == 0:
        set_aside_checkpoints(cfg.work_dir)
    runner = build_runner(cfg)
    if args.compile:
        runner.register_hook(CompileHook(), 'LOWEST')
    runner.train()


def test(args: argparse.Namespace) -> None:
    """Test as `cli.test_parser` describes."""
    cli.check_out('--out', args.out, FORMATS)
    cli.check_out('--dump', args.dump, ('.pkl', '.pickle'))
    cfg = load_config(args, ('test',))
    cfg.load_from = _existing(args.checkpoint)
    cfg.resume = False
    if args.badcase and not _reports(cfg):
        _enable_badcase(cfg, args)
    if args.dump is not None:
        dump = dict(type='DumpResults', out_file_path=args.dump)
        cfg.test_evaluator = [*_evaluators(cfg), dump]
    if (args.amp or args.amp_dtype) and (dtype := autocast_dtype(args.amp_dtype or 'auto')):
        cfg.test_cfg.fp16 = True  # MMEngine's name for autocast of either type
        torch.set_autocast_gpu_dtype(dtype)
    merge_options(cfg, args.cfg_options)
    runner = build_runner(cfg)
    if args.fuse:
        runner.register_hook(FuseHook(args.compile), 'LOW')
    elif args.compile:
        runner.register_hook(CompileHook(), 'LOWEST')
    runner.register_hook(ReportHook(args.out, badcase=args.badcase), 'LOWEST')
    runner.test()


def set_aside_checkpoints(work_dir: str) -> None:
    """Move the checkpoints of an earlier run in `work_dir` to a folder of their own.

    A run that starts anew names its files as the earlier one did and would overwrite them.
    """
    files = [*Path(work_dir).glob('*.pth'), *Path(work_dir).glob('last_checkpoint')]
    if not files:
        return
    folder = Path(work_dir) / time.strftime('previous_%Y%m%d_%H%M%S')
    folder.mkdir()
    for file in files:
        file.rename(folder / file.name)
    print(
        f"'{work_dir}' held an earlier run; its {len(files)} checkpoint files are now in "
        f"'{folder}' (--resume would have gone on with it)"
    )


def read_config(path: str) -> Config:
    """Read a config.

    Raises:
        ConfigError: the file is not there or does not parse.
    """
    if not osp.isfile(path):
        raise ConfigError(f"config '{path}' does not exist")
    try:
        return Config.fromfile(path)
    except SyntaxError as error:
        where = f'{error.filename or path}, line {error.lineno}'
        raise ConfigError(f"config '{path}' does not parse: {error.msg} ({where})") from error
    except Exception as error:
        what = f'{type(error).__name__}: {error}'.strip().splitlines()[0]
        raise ConfigError(f"config '{path}' cannot be used: {what}") from error


def merge_options(cfg: Config, options: dict) -> None:
    """Merge the entries of --cfg-options, which overrule everything else.

    Raises:
        ConfigError: an entry leads through a value that has no entries, or is one that nothing
            reads.
    """
    for key, value in options.items():
        if (first := key.split('.')[0]) not in cfg and first not in KNOWN['']:
            near = difflib.get_close_matches(first, [*cfg, *KNOWN['']], 1)
            meant = f': did you mean {near[0]!r}?' if near else ''
            raise ConfigError(f'--cfg-options {key}: the config has no {first!r}{meant}')
        try:
            cfg.merge_from_dict({key: value})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(
                f'--cfg-options {key}: the config has no place for it, since a value on the way '
                'is no dict, or no list that is long enough'
            ) from error


def load_config(args: argparse.Namespace, uses: Sequence[str] = ('train', 'val')) -> Config:
    """Read the config, merge the flags that training and testing share, and check it.

    --cfg-options are merged first, so that flags find what they name, and again after the flags.

    Args:
        args: the command line. uses: what will run, see `config_checks.check`.

    Raises:
        ConfigError: the file is not there or does not parse, the config cannot run, or a folder
            or the launcher of the command line cannot be used.
    """
    cli.check_folder('--work-dir', args.work_dir)
    cli.check_folder('--show-dir', args.show_dir)
    if missing := [name for name in ENVIRONMENT[args.launcher] if name not in os.environ]:
        raise ConfigError(
            f'--launcher {args.launcher} without {missing[0]} in the environment: start it by '
            'tools/dist_*.sh or tools/slurm_*.sh, or leave the flag out for one process'
        )
    cfg = read_config(args.config)
    merge_options(cfg, args.cfg_options)
    check(cfg, uses)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = osp.join('work_dirs', osp.splitext(osp.basename(args.config))[0])
    if args.show or args.show_dir is not None:
        hook = _default_hook(cfg, 'visualization', 'PoseVisualizationHook')
        hook.update(enable=True, show=args.show, out_dir=args.show_dir, interval=args.interval)
        if args.show:
            hook.wait_time = args.wait_time
    return cfg


def build_runner(cfg: Config) -> Runner:
    """Join the other processes, if any, and build the runner."""
    if cfg.launcher != 'none' and not torch.cuda.is_available():
        _join_on_cpu(cfg)
    cfg.setdefault('runner_type', 'hrformer_mmpose.Runner')
    runner = RUNNERS.build(cfg)
    if names := host.supplied():
        print_log(
            f'standing in for {", ".join(sorted(names))}: not installed, and not needed here '
            '(python -m hrformer_mmpose.doctor tells more)',
            logger='current',
        )
    return runner


def _join_on_cpu(cfg: Config) -> None:
    """Join processes by gloo; MMEngine's own way sets a CUDA device even where there is none."""
    if cfg.launcher != 'pytorch':
        raise ConfigError(f'--launcher {cfg.launcher} needs CUDA; on CPUs use tools/dist_train.sh')
    torch.distributed.init_process_group('gloo')
    cfg.env_cfg = {**(cfg.get('env_cfg') or {}), 'dist_cfg': dict(backend='gloo')}
    cfg.model_wrapper_cfg = dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )


def _default_hook(cfg: Config, name: str, kind: str) -> dict:
    """One of `default_hooks`, which a config need not have."""
    if not cfg.get('default_hooks'):
        cfg.default_hooks = {}
    cfg.default_hooks.setdefault(name, dict(type=kind))
    return cfg.default_hooks[name]


def _existing(checkpoint: str) -> str:
    if '://' not in checkpoint and not osp.isfile(checkpoint):
        raise WeightsError(f"checkpoint '{checkpoint}' does not exist")
    return checkpoint


def _enable_badcase(cfg: Config, args: argparse.Namespace) -> None:
    """MMPose's hook, which needs no annotated persons, for evaluators other than ours."""
    hook = _default_hook(cfg, 'badcase', 'BadCaseAnalysisHook')
    hook.update(enable=True, show=args.show, interval=args.interval)
    if args.show:
        hook.wait_time = args.wait_time
    kind = hook.setdefault('metric_type', 'loss')
    if kind not in ('loss', 'accuracy'):
        raise ConfigError(
            f"default_hooks.badcase: metric_type={kind!r} is not 'loss' or 'accuracy'"
        )
    hook.setdefault('metric', cfg.model.head.loss if kind == 'loss' else cfg.test_evaluator)
    if 'visualization' in cfg.default_hooks:
        cfg.default_hooks.visualization.show = False


def _reports(cfg: Config) -> bool:
    """Whether an evaluator of the config is ours, which finds the worst cases itself."""
    return any(kind['type'] == 'hrformer_mmpose.CocoMetric' for kind in _evaluators(cfg))


def _evaluators(cfg: Config) -> list[dict]:
    kinds = cfg.test_evaluator
    return [*kinds] if isinstance(kinds, list | tuple) else [kinds]
