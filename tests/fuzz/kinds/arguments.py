"""Command lines of the tools and of `hrformer`, in every combination of good and bad values."""

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2

from hrformer_mmpose.cli import (
    benchmark_data,
    check_dataset,
    convert_checkpoint,
    main,
    model_table,
    terminal,
    test,
    train,
)
from tests.fuzz.materials import Materials, fast_mmengine, picture
from tests.fuzz.mutate import misspelt
from tests.fuzz.worker import run_command

ODD = ('', ' ', '-1', '0', 'nan', '1e9', 'x', '/', '/dev/null', '/dev/full', 'nowhere', '.',
    '\x00'[:0],
       '../..', 'a=b', '=', '[', 'ä\u202e', 'x' * 300, '99999999999', '0/0', '5/3', '1/4', '-',
       '--')  # fmt: skip
TOOLS: dict[str, tuple[Callable, Callable]] = {
    'train': (train.run, train.parser),
    'test': (test.run, test.parser),
    'check_dataset': (check_dataset.run, check_dataset.parser),
    'convert_checkpoint': (convert_checkpoint.run, convert_checkpoint.parser),
    'model_table': (model_table.run, model_table.parser),
    'benchmark_data': (benchmark_data.run, benchmark_data.parser),
}


class Arguments:
    """Command lines, run in this process."""

    name = 'arguments'
    isolate = executes = True

    def __init__(self, materials: Materials):
        self.materials = materials
        self.data = materials.folder / 'arguments'
        self.data.mkdir()
        for number in range(3):
            cv2.imwrite(str(self.data / f'{number}.png'), picture(random.Random(number)))
        (self.data / 'text.txt').write_text('text')

    def make(self, rng: random.Random, folder: Path) -> tuple[str, Any]:
        """A command line, with a value or a flag exchanged, lost, doubled or misspelt."""
        tool = rng.choice(
            ('predict', 'predict', 'predict', 'export', 'train', 'train', 'test', 'test',
             'new-dataset', 'new-dataset', 'check_dataset', 'convert_checkpoint', 'models',
             'doctor', 'benchmark', 'benchmark_data')
        )  # fmt: skip
        words = [*map(str, self._valid(rng, tool, folder))]
        for _ in range(rng.choice((0, 1, 1, 2, 3))):
            self._change(rng, words, folder)
        if tool == 'benchmark':  # a valid one takes minutes
            words.append('--nothing')
        return f'{tool} {" ".join(words)}'.replace(str(folder), '.'), (tool, words)

    def judge(self, given: tuple[str, list[str]]) -> None:
        """Status 0, or one line and another status."""
        tool, words = given
        if tool in TOOLS:
            run, parser = TOOLS[tool]
            sys.argv = [f'{tool}.py', *words]
            call = lambda: terminal.run(run, parser())  # noqa: E731
        else:
            sys.argv, call = ['hrformer', tool, *words], main.main
        with fast_mmengine():
            run_command(call)

    def _valid(self, rng: random.Random, tool: str, folder: Path) -> list:
        m, work = self.materials, folder / 'work'
        if tool == 'predict':
            model = rng.choice(
                (
                    ['--model', m.onnx],
                    ['--model', m.onnx],
                    ['--model', m.config, '--checkpoint', m.checkpoint],
                )
            )
            flags = (['--batch-size', 2], ['--threshold', 0.2], ['--box-threshold', 0.1],
                ['--shard', '0/2'],
                     ['--threads', 1], ['--no-pictures'], ['--force'], ['--backend', 'onnxruntime'],
                     ['--precision', 'float32'], ['--flip'],
                     ['--annotations', self._annotations()])  # fmt: skip
            boxes = rng.choice(('whole-image', 'whole-image', 'hog', self._annotations()))
            return [rng.choice((self.data, self.data / '0.png')), *model, '--out', folder / 'out',
                    '--boxes', boxes, *_some(rng, flags)]  # fmt: skip
        if tool == 'export':
            flags = (['--no-check'], ['--no-decode'], ['--no-normalise'], ['--flip'], ['--force'],
                     ['--precision', 'float16'], ['--images', self.data, '--boxes', 'whole-image'],
                     ['--tolerance', 1])  # fmt: skip
            return [m.config, m.checkpoint, folder / 'new.onnx', '--no-check', *_some(rng, flags)]
        if tool == 'train':
            flags = (['--resume'], ['--no-validate'], ['--auto-scale-lr'], ['--amp'],
                ['--launcher', 'none'],
                     ['--show-dir', folder / 'show'], ['--interval', 5],
                     ['--cfg-options', 'train_dataloader.batch_size=2'],
                     ['--resume', m.checkpoint])  # fmt: skip
            return [
                m.config,
                '--work-dir',
                work,
                *_some(rng, flags),
                '--cfg-options',
                'train_cfg.max_epochs=1',
            ]
        if tool == 'test':
            flags = (['--out', folder / 'out.json'], ['--dump', folder / 'out.pkl'], ['--no-fuse'],
                ['--badcase'],
                     ['--show-dir', folder / 'show'], ['--launcher', 'none'],
                     ['--amp'])  # fmt: skip
            return [m.config, m.checkpoint, '--work-dir', work, *_some(rng, flags)]
        if tool == 'new-dataset':
            names = ('nose', 'left_wrist', 'right_wrist')
            flags = (['--keypoints', *names], ['--flip-pairs', 'left_wrist:right_wrist'],
                     ['--category', 'person'], ['--second', self._annotations()],
                     ['--val', self._annotations(), '--val-images', m.data / 'val2017'],
                     ['--val-fraction', 0.5], ['--seed', 3], ['--model', 'tiny'],
                     ['--weights', rng.choice(('none', m.checkpoint))], ['--overfit'],
                     ['--input-size', '64x48'], ['--codec', 'dark'],
                     ['--epochs', 2])  # fmt: skip
            return [self._annotations(), '--images', m.data / 'val2017',
                    '--out', folder / 'new', *_some(rng, flags)]  # fmt: skip
        if tool == 'check_dataset':
            return [
                m.config,
                *_some(rng, (['--full'], ['--splits', 'train', 'val'], ['--all-notes'])),
            ]
        if tool == 'convert_checkpoint':
            target = folder / rng.choice(('new.pth', 'new.safetensors'))
            return [m.checkpoint, target, *_some(rng, (['--to', 'official'], ['--force']))]
        if tool == 'benchmark':
            return [rng.choice(('networks', 'poses')), rng.choice(('--json', '--batch-size=x'))]
        if tool == 'benchmark_data':
            loading = ['loading', m.data, '--samples', 4]
            evaluation = ['evaluation', self._annotations(), '--detections', 50]
            return [*rng.choice((loading, evaluation)), '--rounds', 1]
        return []

    def _annotations(self) -> Path:
        return self.materials.data / 'annotations/person_keypoints_val2017.json'

    def _change(self, rng: random.Random, words: list[str], folder: Path) -> None:
        m = self.materials
        paths = (m.config, m.checkpoint, m.onnx, m.xml, m.data, self.data, self.data / 'text.txt',
            folder,
                 self.data / '1.png', self._annotations(), '/proc/self/mem', '/root/x/y',
                 '/proc/x')  # fmt: skip
        options = ('train_dataloader.batch_size=0', 'a', 'a.b.c=1', 'model=1',
            'train_cfg.max_epochs=x',
                   'optim_wrapper.optimizer.lr=nan', 'model.head.out_channels=3', 'work_dir=1',
                   '=1', 'x=[1')  # fmt: skip
        if not words:
            words.append(rng.choice(('--help', '--x', 'x', *ODD)))
            return
        place = rng.randrange(len(words))
        action = rng.choice(('odd', 'odd', 'path', 'lose', 'double', 'misspell', 'add', 'options'))
        if action == 'odd':
            words[place] = rng.choice(ODD)
        elif action == 'path':
            words[place] = str(rng.choice(paths))
        elif action == 'lose':
            del words[place]
        elif action == 'double':
            words.insert(place, words[place])
        elif action == 'misspell':
            words[place] = misspelt(rng, words[place])
        elif action == 'add':
            words.append(str(rng.choice((*ODD, *paths))))
        else:
            words += ['--cfg-options', rng.choice(options)]


def _some(rng: random.Random, flags: tuple) -> list:
    return [word for flag in flags if rng.random() < 0.25 for word in flag]
