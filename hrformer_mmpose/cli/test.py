"""Test a pose model: `tools/test.py`."""

import argparse
import os
from logging import WARNING

import torch
from mmengine.config import Config
from mmengine.logging import print_log

from ..engine.hooks import CompileHook, FuseHook, ReportHook
from ..errors import ConfigError
from ..execution.precision import autocast_dtype
from ..zoo import merge_options
from .arguments import check_out, common_parser
from .keypoint_checks import as_list, is_own_metric
from .launch import build_runner, default_hook, existing_checkpoint, load_config

OUT_FORMATS = ('.json', '.yaml', '.yml', '.pkl', '.pickle')
DUMP_FORMATS = ('.pkl', '.pickle')


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    flags = common_parser('Test a pose model')
    flags.add_argument('checkpoint', help='checkpoint file')
    flags.add_argument('--out', help='file for the metrics (.json, .yaml or .pkl)')
    flags.add_argument('--dump', help='file for all predictions (.pkl)')
    flags.add_argument(
        '--no-fuse', dest='fuse', action='store_false', help='test the network as it was trained'
    )
    flags.add_argument('--badcase', action='store_true', help='draw the worst predictions')
    return flags


def run(args: argparse.Namespace) -> None:
    """Test."""
    check_out('--out', args.out, OUT_FORMATS)
    check_out('--dump', args.dump, DUMP_FORMATS)
    cfg = load_config(args, ('test',))
    for file in filter(None, (args.out, args.dump)):
        if os.path.exists(file):
            print_log(f"'{file}' exists and will be replaced", logger='current', level=WARNING)
    cfg.load_from = existing_checkpoint(args.checkpoint)
    cfg.resume = False
    evaluators = as_list(cfg.test_evaluator)
    # This package's metric reports the worst predictions itself, see `ReportHook`.
    if args.badcase and not any(map(is_own_metric, evaluators)):
        _enable_badcase(cfg, args)
    if args.dump is not None:
        cfg.test_evaluator = [*evaluators, dict(type='DumpResults', out_file_path=args.dump)]
    dtype = autocast_dtype(args.amp_dtype or 'auto') if args.amp or args.amp_dtype else None
    if dtype is not None:
        cfg.test_cfg.fp16 = True  # MMEngine's name for autocast of either type
        torch.set_autocast_gpu_dtype(dtype)
    merge_options(cfg, args.cfg_options)
    runner = build_runner(cfg)
    if args.fuse:
        runner.register_hook(FuseHook(args.compile, dtype), 'LOW')
    elif args.compile:
        runner.register_hook(CompileHook(), 'LOWEST')
    runner.register_hook(ReportHook(args.out, badcase=args.badcase), 'LOWEST')
    runner.test()


def _enable_badcase(cfg: Config, args: argparse.Namespace) -> None:
    """Enable MMPose's `BadCaseAnalysisHook`, which works with any evaluator."""
    hook = default_hook(cfg, 'badcase', 'BadCaseAnalysisHook')
    hook.update(enable=True, show=args.show, interval=args.interval)
    if args.show:
        hook.wait_time = args.wait_time
    metric_type = hook.setdefault('metric_type', 'loss')
    if metric_type not in ('loss', 'accuracy'):
        raise ConfigError(
            f"default_hooks.badcase: metric_type={metric_type!r} is not 'loss' or 'accuracy'"
        )
    if 'metric' not in hook:
        loss = (cfg.model.get('head') or {}).get('loss')
        hook.metric = loss if metric_type == 'loss' else as_list(cfg.test_evaluator)[0]
    if hook.metric is None:
        raise ConfigError(
            '--badcase compares losses, and model.head of the config has no loss: set '
            'default_hooks.badcase.metric'
        )
    if 'visualization' in cfg.default_hooks:
        cfg.default_hooks.visualization.show = False
