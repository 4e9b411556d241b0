"""Runs that are killed, or find the disk full, at one of their file operations.

Each input is an operation: the run is disturbed there, the same command takes it up again, and the
result must be that of a run that nothing disturbed.
"""

import json
import random
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import torch

from hrformer_mmpose.cli import main, terminal, train
from tests.fuzz.disturb import ALLOCATES, FULL, KILL, in_fork
from tests.fuzz.materials import Materials, fast_mmengine, picture


class Training:
    """`tools/train.py` for two epochs; taken up again by --resume."""

    def __init__(self, materials: Materials):
        self.config = materials.config

    def start(self, out: Path, again: bool) -> None:
        """The command, in this process."""
        flags = ['--resume'] if again else []
        sys.argv = ['train.py', str(self.config), '--work-dir', str(out), *flags]
        with fast_mmengine():
            terminal.run(train.run, train.parser())

    def differences(self, out: Path, whole: Path) -> list[str]:
        """Other weights, other files, a pointer to another file, doubled log entries."""
        dated = re.compile(r'\d{8}_\d{6}')
        names, expected = (
            {path.name for path in folder.glob('*') if not dated.match(path.name)}
            for folder in (out, whole)
        )
        differing = [f'files: {", ".join(sorted(odd))}'] if (odd := names ^ expected) else []
        for name in sorted(names & expected):
            if name.endswith('.pth') and not _same_weights(out / name, whole / name):
                differing.append(f'{name} differs')
        pointer = out / 'last_checkpoint'
        if not pointer.exists() or Path(pointer.read_text().strip()).name != 'epoch_2.pth':
            differing.append('last_checkpoint names another file')
        if twice := [step for step, count in _validations(out).items() if count > 1]:
            differing.append(f'epochs validated twice in the log: {twice}')
        return differing


class Prediction:
    """`hrformer predict` on images, each with its picture; the same command again."""

    def __init__(self, materials: Materials, images: int = 20):
        self.onnx, self.images = materials.onnx, materials.folder / 'to_predict'
        self.images.mkdir(exist_ok=True)
        for number in range(images):
            path = self.images / f'{number}.png'
            if not path.exists():  # two kinds share the images; the journal knows when they changed
                cv2.imwrite(str(path), picture(random.Random(number)))

    def start(self, out: Path, again: bool) -> None:
        """The command, in this process."""
        sys.argv = ['hrformer', 'predict', str(self.images), '--model', str(self.onnx)]
        sys.argv += ['--boxes', 'whole-image', '--out', str(out), '--threads', '1']
        sys.argv += ['--batch-size', '1']  # the same numbers whatever is left
        main.main()

    def differences(self, out: Path, whole: Path) -> list[str]:
        """Other files or other content; images lost or doubled in the journal."""
        ours, expected = (
            {str(path.relative_to(folder)): path for path in folder.rglob('*') if path.is_file()}
            for folder in (out, whole)
        )
        odd = sorted(re.sub(r'part-\d+', 'part-N', name) for name in ours.keys() ^ expected.keys())
        differing = [f'files: {", ".join(odd)}'] if odd else []
        for name in sorted(ours.keys() & expected.keys()):
            contents = [files[name].read_bytes() for files in (ours, expected)]
            if name.endswith('.jsonl'):
                contents = [Counter(content.splitlines()) for content in contents]
            if contents[0] != contents[1]:
                differing.append(f'{name} differs')
        return differing


class Disturbed:
    """A job with one file operation disturbed; the number of the input is that of the operation.

    Args:
        name: of the kind. job: see above. how: `KILL` or `FULL`. folder: for the whole run.
    """

    isolate, executes = False, True

    def __init__(self, name: str, job: Training | Prediction, how: str, folder: Path):
        self.name, self.job, self.how = name, job, how
        self.whole, log, output = folder / 'whole', folder / 'operations', folder / 'output'
        folder.mkdir(parents=True)
        if in_fork(lambda: job.start(self.whole, False), self.whole, log=log, output=output):
            raise RuntimeError(f'the undisturbed run failed: {output.read_text()[-2000:]}')
        lines = log.read_text().replace(f'{self.whole}/', '').splitlines()
        self.operations = [line.split(' ', 2) for line in lines]
        self.numbers = self._chosen()

    def _chosen(self) -> list[int]:
        """Operations to disturb: all, but of the lines of logs every twelfth."""
        chosen, logged = [], 0
        for number, (_, operation, path) in enumerate(self.operations):
            if self.how == FULL and operation not in ALLOCATES:
                continue
            logged += operation == 'write' and path.endswith('.log')
            if operation == 'write' and path.endswith('.log') and logged % 12:
                continue
            chosen.append(number)
        return chosen

    def make(self, rng: random.Random, folder: Path) -> tuple[str, Any]:
        """The folder for the results and the number of the operation, the folder's name."""
        number = int(folder.name)
        return ' '.join(self.operations[number][1:]), (folder, number)

    def judge(self, given: tuple[Path, int]) -> None:
        """The disturbed run ends with a line; the next one's results are an undisturbed run's."""
        folder, at = given
        out, first, second = folder / 'out', folder / 'first', folder / 'second'
        status = in_fork(lambda: self.job.start(out, False), out, at, self.how, output=first)
        problems = self._of_the_end(status, first.read_text(errors='replace'))
        status = in_fork(lambda: self.job.start(out, True), out, output=second)
        if status:
            problems.append(f'taken up: status {status}: {_last(second.read_text())}')
        else:
            problems += self.job.differences(out, self.whole)
        assert not problems, '; '.join(problems)

    def _of_the_end(self, status: int, text: str) -> list[str]:
        if self.how == KILL:
            return [] if status < 0 else [f'status {status}, not killed']
        if 'Traceback' in text:
            return [f'full disk: traceback: {_last(text)}']
        if status <= 0:
            return [f'full disk: status {status}']
        if not re.search(r'^(error|problem): .*(space|written|save)', text, re.MULTILINE):
            return [f'full disk: status {status} without a line: {_last(text)}']
        return []


def kinds(materials: Materials) -> dict[str, Any]:
    """Name -> what makes the kind."""
    return {
        f'{label}-{how}': lambda label=label, job=job, how=how: Disturbed(
            f'{label}-{how}', job(materials), how, materials.folder / f'{label}-{how}'
        )
        for label, job in (('training', Training), ('prediction', Prediction))
        for how in (KILL, FULL)
    }


def _last(text: str) -> str:
    return (text.strip().splitlines() or [''])[-1][:150]


def _same_weights(ours: Path, other: Path) -> bool:
    """Whether weights, moving averages and optimizer are equal to the last bit."""
    a, b = (torch.load(path, weights_only=True) for path in (ours, other))
    states = [(a.get(key, {}), b.get(key, {})) for key in ('state_dict', 'ema_state_dict')]
    states += [
        (value, b['optimizer']['state'][key])
        for key, value in a.get('optimizer', {}).get('state', {}).items()
    ]
    return all(
        x.keys() == y.keys() and all(torch.equal(x[key], y[key]) for key in x) for x, y in states
    )


def _validations(out: Path) -> Counter:
    """Times that each epoch's validation was logged."""
    counts: Counter = Counter()
    for path in out.glob('*/vis_data/scalars.json'):
        for line in path.read_text().splitlines():
            if 'coco/AP' in line and line.endswith('}'):
                counts[json.loads(line)['step']] += 1
    return counts
