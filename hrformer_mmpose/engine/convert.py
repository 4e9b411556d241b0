"""tools/convert_checkpoint.py: from one naming to the other, weights alone."""

import argparse
import hashlib
import os
from pathlib import Path

import torch

from ..checkpoint import files, names
from ..errors import ConfigError, WeightsError


def parser() -> argparse.ArgumentParser:
    """The flags of tools/convert_checkpoint.py."""
    made = argparse.ArgumentParser(
        description='Convert the weights of an HRFormer between the names of MMPose (and this '
        "package) and those of the authors' code. The origin is recognised from the file."
    )
    made.add_argument('source', metavar='SRC', help='file (.pth, .safetensors) or http(s) address')
    made.add_argument('destination', metavar='DST', help='file to write: .pth or .safetensors')
    made.add_argument('--to', choices=['mmpose', 'official'], default='mmpose', help='names in DST')
    made.add_argument('--force', action='store_true', help='overwrite DST')
    return made


def convert(args: argparse.Namespace) -> None:
    """Read, rename, write, and say what was there.

    Raises:
        ConfigError: DST exists, is a folder's or has another ending.
        WeightsError: SRC cannot be read or is no HRFormer, or DST cannot be written.
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
    origin = recorded or names.origin(weights)
    rename = names.to_official if args.to == 'official' else names.to_mmpose
    try:
        converted, architecture = rename(weights), names.architecture(weights)
    except WeightsError as error:
        raise WeightsError(f"'{args.source}': {error}") from error
    if names.origin(weights) == 'unknown':
        raise WeightsError(f"'{args.source}' holds {architecture}, not an HRFormer")
    integers = (names.INDEX, 'num_batches_tracked')
    weights_alone = {k: torch.empty(0) for k in converted if not k.endswith(integers)}
    files.check_types(converted, weights_alone, args.source)
    # The authors' classification code looks for `model`, their pose and segmentation code for both.
    to_model = args.to == 'official' and origin == 'official-classification'
    try:
        files.save_weights(converted, target, origin, 'model' if to_model else 'state_dict')
    except OSError as error:
        raise WeightsError(f"cannot write '{target}': {error.strerror or error}") from error
    print(f'origin        {origin}')
    print(f'architecture  {architecture}')
    keypoints = names.num_keypoints(weights)
    if keypoints is not None:
        print(f'keypoints     {keypoints}')
    print(f'parameters    {names.num_parameters(weights):,}')
    print(f'entries       {len(weights)} -> {len(converted)}')
    print(f'SHA-256       {hashlib.sha256(target.read_bytes()).hexdigest()}')
    print(f'written       {target} ({os.path.getsize(target):,} bytes, {args.to} names)')
