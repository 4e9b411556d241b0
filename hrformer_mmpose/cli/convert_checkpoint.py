"""Convert the weights of a checkpoint between naming schemes: `tools/convert_checkpoint.py`."""

import argparse
import hashlib
import os
from pathlib import Path

import torch

from ..checkpoint import files
from ..checkpoint import state_dict_adapter as adapter
from ..checkpoint.head_rows import names_in_file
from ..errors import ConfigError, WeightsError


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    flags = argparse.ArgumentParser(
        description='Convert the weights of an HRFormer, TokenPose, TransPose or PRTR between the '
        "names of MMPose (and this package) and those of the authors' code. The origin is detected "
        'from the file.'
    )
    flags.add_argument('source', metavar='SRC', help='file (.pth, .safetensors) or http(s) address')
    flags.add_argument('destination', metavar='DST', help='file to write: .pth or .safetensors')
    flags.add_argument('--to', choices=['mmpose', 'official'], default='mmpose', help='DST naming')
    flags.add_argument('--force', action='store_true', help='overwrite DST')
    return flags


def run(args: argparse.Namespace) -> None:
    """Read the weights, rename them, write them, and print a summary.

    Raises:
        ConfigError: DST exists, its folder does not exist, or its extension is not supported.
        WeightsError: SRC cannot be read or is none of the networks, or DST cannot be written.
    """
    target = Path(args.destination)
    if target.suffix not in ('.pth', '.safetensors'):
        raise ConfigError(f"'{target}' must end in .pth or .safetensors")
    if target.exists() and not args.force:
        raise ConfigError(f"'{target}' exists: choose another name, or overwrite it with --force")
    if not target.resolve().parent.is_dir():
        raise ConfigError(f"folder '{target.resolve().parent}' does not exist")
    content = files.read(args.source)
    weights = files.weights_in(content, args.source)
    recorded = files.recorded_origin(content)
    origin = recorded or adapter.origin(weights)
    rename = adapter.to_official if args.to == 'official' else adapter.to_mmpose
    try:
        converted, architecture = rename(weights), adapter.architecture(weights)
    except WeightsError as error:
        raise WeightsError(f"'{args.source}': {error}") from error
    if adapter.origin(weights) == 'unknown':
        raise WeightsError(
            f"'{args.source}' holds {architecture}, not an HRFormer, TokenPose, TransPose or PRTR"
        )
    integers = (adapter.INDEX, 'num_batches_tracked')
    floats = {key: torch.empty(0) for key in converted if not key.endswith(integers)}
    files.check_types(converted, floats, args.source)
    # The authors' classification code reads the key `model` only; their pose and segmentation code
    # read both keys.
    to_model = args.to == 'official' and origin == 'official-classification'
    wrapper = 'model' if to_model else 'state_dict'
    try:
        files.save_weights(converted, target, origin, wrapper, names_in_file(content) or ())
    except OSError as error:
        raise WeightsError(f"cannot write '{target}': {error.strerror or error}") from error
    print(f'origin        {origin}')
    print(f'architecture  {architecture}')
    for name, count in (('keypoints', adapter.num_keypoints), ('classes', adapter.num_classes)):
        if (number := count(weights)) is not None:
            print(f'{name:<14}{number}')
    print(f'parameters    {adapter.num_parameters(weights):,}')
    print(f'entries       {len(weights)} -> {len(converted)}')
    print(f'SHA-256       {hashlib.sha256(target.read_bytes()).hexdigest()}')
    print(f'written       {target} ({os.path.getsize(target):,} bytes, {args.to} names)')
