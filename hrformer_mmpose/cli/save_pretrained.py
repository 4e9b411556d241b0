"""Write a trained network as a folder to keep or to publish: `hrformer save-pretrained`."""

import argparse
import json
from pathlib import Path

from ..checkpoint import files
from ..engine.work_dir import POINTER, log_entries
from ..errors import UserError, WeightsError
from ..inference import pretrained_folder
from ..inference.torch_network import TorchNetwork

Results = dict[str, float]


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    flags = argparse.ArgumentParser(
        description='Write the network of a training as a folder: weights (safetensors), settings '
        'and a model card with the metrics of its test. `PoseEstimator.from_pretrained` and '
        '`hrformer predict --model FOLDER` read it.'
    )
    flags.add_argument('work_dir', help='work folder of the training, or a config or its name')
    flags.add_argument('folder', help='folder to write; a new one')
    flags.add_argument(
        '--checkpoint', help='weights; by default the best of the work folder, else the last'
    )
    flags.add_argument(
        '--results',
        metavar='FILE',
        help='metrics for the card: the .json of `tools/test.py --out`; by default those of the '
        "training's validation of this checkpoint",
    )
    return flags


def run(args: argparse.Namespace) -> None:
    """Write the folder.

    Raises:
        UserError: no config or checkpoint, a file of metrics that is none, or the folder exists.
    """
    for name in ('work_dir', 'folder'):
        if not getattr(args, name):
            raise UserError(f"{name} '' is empty: give a path")
    work_dir, config = Path(args.work_dir), args.work_dir
    if work_dir.is_dir():
        config = _config(work_dir)
    elif args.checkpoint is None:
        raise UserError(f"'{work_dir}' is no work folder: a config needs --checkpoint")
    checkpoint = args.checkpoint or str(_checkpoint(work_dir))
    if args.results is not None:
        results = _test(Path(args.results))
        source = f'`tools/test.py`, {Path(args.results).name}'
    else:
        results, source = _validation(work_dir, checkpoint)
    network = TorchNetwork(config, checkpoint, 'cpu', fuse=False)
    pretrained_folder.save(args.folder, network, results, source)
    print(f"wrote '{args.folder}': {network.name}, weights of '{checkpoint}'")
    if results:
        metrics = ', '.join(f'{name} {value:.4f}' for name, value in [*results.items()][:6])
        print(f'card: {metrics} ({source})')
    else:
        print('card: no metrics; tools/test.py --out FILE.json measures them, --results FILE.json')


def _config(work_dir: Path) -> str:
    """Return the config that the training wrote."""
    configs = sorted(work_dir.glob('*.py'))
    if len(configs) == 1:
        return str(configs[0])
    what = f'{len(configs)} configs' if configs else 'no config'
    raise UserError(
        f"work folder '{work_dir}' holds {what}: give the config instead of the folder, with "
        '--checkpoint'
    )


def _checkpoint(work_dir: Path) -> Path:
    """Return the best checkpoint, else the last one."""
    for pattern in ('best_*.pth', '*.pth'):
        if found := sorted(work_dir.glob(pattern), key=lambda path: path.stat().st_mtime_ns):
            return found[-1]
    raise WeightsError(f"work folder '{work_dir}' holds no checkpoint (.pth)")


def _test(path: Path) -> Results:
    """Read the metrics of a test."""
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        why = getattr(error, 'strerror', None) or error
        raise UserError(f"--results '{path}' cannot be read: {why}") from error
    metrics = _metrics(content) if isinstance(content, dict) else {}
    if not metrics:
        raise UserError(
            f"--results '{path}' holds no metrics: give the .json of tools/test.py --out"
        )
    return metrics


def _validation(work_dir: Path, checkpoint: str) -> tuple[Results, str]:
    """Return the metrics of the validation after the checkpoint's epoch, and their description.

    A checkpoint of another folder has none: its epoch was validated by another training.
    """
    pointer = work_dir / POINTER
    folders = [work_dir]
    if pointer.is_file():  # names another folder if the checkpoint hook has an out_dir
        folders.append(Path(pointer.read_text().strip()).parent)
    if Path(checkpoint).resolve().parent not in [folder.resolve() for folder in folders]:
        return {}, ''
    content = files.read(checkpoint, skip_tensors=True)
    meta = content.get('meta') if isinstance(content, dict) else None
    epoch = meta.get('epoch') if isinstance(meta, dict) else None
    found: Results = {}
    for entry in log_entries(work_dir) if epoch else ():
        if entry.get('step') == epoch and 'lr' not in entry:  # of a validation
            found = _metrics(entry) or found
    return found, f'the validation after epoch {epoch} of the training'


def _metrics(content: dict) -> Results:
    """Return the metrics of an evaluation: numbers whose names have a prefix, as `coco/AP`."""
    return {
        name: float(value)
        for name, value in content.items()
        if '/' in name and isinstance(value, int | float)
    }
