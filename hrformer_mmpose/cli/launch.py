"""Steps that training and testing share.

Config -> command-line overrides -> checks -> process group -> runner.
Precedence follows MMPose: command line, then config, then default.
"""

import argparse
import os
import os.path as osp
from collections.abc import Sequence

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ..checkpoint.files import local_path
from ..compat import host
from ..config_errors import blame
from ..errors import ConfigError
from ..zoo import merge_options, read_config
from .arguments import check_folder
from .config_checks import check
from .key_checks import check_option_names
from .terminal import check_display

ENVIRONMENT = {  # variables that each launcher sets
    'none': (),
    'pytorch': ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'),
    'slurm': ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST'),
    'mpi': ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK'),
}


def load_config(args: argparse.Namespace, uses: Sequence[str] = ('train', 'val')) -> Config:
    """Read the config, merge the flags that training and testing share, and check it.

    `--cfg-options` are merged before the flags, which may depend on them. The caller merges them
    again after its own flags, because they have precedence.

    Args:
        args: parsed command line.
        uses: parts of the config that will run, see `config_checks.check`.

    Returns:
        The merged config.

    Raises:
        ConfigError: the file does not exist or does not parse, the config cannot run, or a folder
            or the launcher of the command line cannot be used.
    """
    check_folder('--work-dir', args.work_dir)
    check_folder('--show-dir', args.show_dir)
    if args.show:
        check_display()
    if missing := [name for name in ENVIRONMENT[args.launcher] if name not in os.environ]:
        raise ConfigError(
            f'--launcher {args.launcher} without {missing[0]} in the environment: start it by '
            'tools/dist_*.sh or tools/slurm_*.sh, or leave the flag out for one process'
        )
    cfg = read_config(args.config)
    check_option_names(cfg, args.cfg_options)
    merge_options(cfg, args.cfg_options)
    with blame(cfg):  # values of other types than the checks expect
        check(cfg, uses)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = osp.join('work_dirs', osp.splitext(osp.basename(args.config))[0])
    if args.show or args.show_dir is not None:
        hook = default_hook(cfg, 'visualization', 'PoseVisualizationHook')
        hook.update(enable=True, show=args.show, out_dir=args.show_dir, interval=args.interval)
        if args.show:
            hook.wait_time = args.wait_time
    return cfg


def build_runner(cfg: Config) -> Runner:
    """Join the process group, if there is one, and build the runner."""
    check_folder('work_dir', cfg.work_dir)
    if cfg.launcher != 'none' and not torch.cuda.is_available():
        _join_on_cpu(cfg)
    cfg.setdefault('runner_type', 'hrformer_mmpose.Runner')
    with blame(cfg):
        runner = RUNNERS.build(cfg)
    if names := host.supplied():
        print_log(
            f'using stand-ins for {", ".join(sorted(names))}: not installed, and not needed here '
            '(hrformer doctor shows details)',
            logger='current',
        )
    return runner


def _join_on_cpu(cfg: Config) -> None:
    """Join the process group through gloo; MMEngine would set a CUDA device even without CUDA."""
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


def default_hook(cfg: Config, name: str, kind: str) -> dict:
    """Return the settings of an entry of `default_hooks`, added if the config lacks it.

    Args:
        cfg: the config, changed in place.
        name: key in `default_hooks`.
        kind: registry name of the hook, if the entry is new.
    """
    if not cfg.get('default_hooks'):
        cfg.default_hooks = {}
    cfg.default_hooks.setdefault(name, dict(type=kind))
    return cfg.default_hooks[name]


def existing_checkpoint(checkpoint: str) -> str:
    """Return the path of a checkpoint, `~` expanded, or its address, which is fetched later.

    Raises:
        WeightsError: the file does not exist.
    """
    return checkpoint if '://' in checkpoint else local_path(checkpoint)
