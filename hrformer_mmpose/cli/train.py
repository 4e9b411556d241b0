"""Train a model: `tools/train.py`."""

import argparse

from mmengine.device import get_device

from ..engine.hooks import CompileHook, CudaGraphHook
from ..errors import ConfigError
from ..execution import memory
from ..zoo import merge_options
from .arguments import common_parser
from .launch import build_runner, existing_checkpoint, load_config


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    flags = common_parser('Train a model')
    flags.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='resume from a checkpoint; without a value, from the latest in the work folder',
    )
    flags.add_argument('--no-validate', action='store_true', help='train without evaluating')
    flags.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate with the actual batch size',
    )
    flags.add_argument(
        '--cuda-graph',
        action='store_true',
        help="replay the backbone's training step as CUDA graphs (GPUs)",
    )
    return flags


def run(args: argparse.Namespace) -> None:
    """Train."""
    cfg = load_config(args)
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.amp or args.amp_dtype:
        cfg.optim_wrapper.type = 'hrformer_mmpose.AutoAmpOptimWrapper'
        cfg.optim_wrapper.dtype = args.amp_dtype or 'auto'
    if args.resume is not None:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else existing_checkpoint(args.resume)
    if args.auto_scale_lr:
        if 'auto_scale_lr' not in cfg:
            raise ConfigError(f'{args.config}: --auto-scale-lr needs auto_scale_lr.base_batch_size')
        cfg.auto_scale_lr.enable = True
    merge_options(cfg, args.cfg_options)
    runner = build_runner(cfg)
    if args.compile:
        runner.register_hook(CompileHook(), 'LOWEST')
    if args.cuda_graph:
        runner.register_hook(CudaGraphHook(), 'LOWEST')
    if get_device() == 'cpu':
        memory.keep_for_training()
    runner.train()
