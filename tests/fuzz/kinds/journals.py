"""Journals of `hrformer predict` that are damaged between two runs."""

import json
import os
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import cv2

from hrformer_mmpose.cli import main
from tests.fuzz.materials import Materials, picture
from tests.fuzz.mutate import mutate_bytes, mutate_tree
from tests.fuzz.worker import run_command

RESULTS = ('keypoints.json', 'categories.json', 'images.json')


class Journals:
    """A finished or interrupted run, its journal damaged, and the same command again."""

    name = 'journals'
    isolate = executes = False

    def __init__(self, materials: Materials):
        self.folder, self.onnx = materials.folder / 'journals', materials.onnx
        (self.folder / 'data').mkdir(parents=True)
        rng = random.Random(1)
        for number in range(4):
            cv2.imwrite(str(self.folder / f'data/{number}.png'), picture(rng, 48, 40))
        self.lines: list[bytes] = []
        self.results: dict[str, bytes] = {}

    def make(self, rng: random.Random, folder: Path) -> tuple[str, Any]:
        """A folder of results whose journal has changed."""
        if not self.lines:  # made by a worker, since onnxruntime's threads survive no fork
            self.whole = self.folder / f'out-{os.getpid()}'
            self._predict(self.whole)
            self.lines = (self.whole / 'poses.jsonl').read_bytes().splitlines(keepends=True)
            self.results = {name: (self.whole / name).read_bytes() for name in RESULTS}
        out = folder / 'out'
        shutil.copytree(self.whole, out)
        if rng.random() < 0.5:  # interrupted
            for name in RESULTS:
                (out / name).unlink()
        way = rng.choice((self._bytes, self._bytes, self._values, self._values, self._lines))
        name, data = way(rng)
        (out / 'poses.jsonl').write_bytes(data)
        return f'{way.__name__[1:]}: {name}', out

    def judge(self, given: Path) -> None:
        """Results are those of an undisturbed run."""
        self._predict(given)
        for name, expected in self.results.items():
            assert (given / name).read_bytes() == expected, f'{name} differs'

    def _predict(self, out: Path) -> None:
        sys.argv = ['hrformer', 'predict', str(self.folder / 'data'), '--model', str(self.onnx)]
        sys.argv += ['--boxes', 'whole-image', '--out', str(out), '--threads', '1', '--no-pictures']
        # Scores differ in the last digit between batches of other sizes.
        sys.argv += ['--batch-size', '1']
        run_command(main.main)

    def _bytes(self, rng: random.Random) -> tuple[str, bytes]:
        return mutate_bytes(rng, b''.join(self.lines))

    def _values(self, rng: random.Random) -> tuple[str, bytes]:
        """Entries of a line changed."""
        lines = [*self.lines]
        place = rng.randrange(len(lines))
        name, changed = mutate_tree(rng, json.loads(lines[place]))
        lines[place] = json.dumps(changed, separators=(',', ':')).encode() + b'\n'
        return f'line {place}: {name}', b''.join(lines)

    def _lines(self, rng: random.Random) -> tuple[str, bytes]:
        """Lines lost, doubled, exchanged, or cut at the end."""
        lines = [*self.lines]
        action = rng.choice(('lose', 'double', 'swap', 'cut', 'empty', 'junk'))
        place, other = rng.randrange(len(lines)), rng.randrange(len(lines))
        if action == 'lose':
            del lines[place]
        elif action == 'double':
            lines.insert(place, lines[other])
        elif action == 'swap':
            lines[place], lines[other] = lines[other], lines[place]
        elif action == 'cut':
            data = b''.join(lines)
            return action, data[: rng.randrange(len(data))]
        elif action == 'empty':
            lines.insert(place, b'\n')
        else:
            lines.insert(
                place, rng.choice((b'\0' * 50, b'{}\n', b'[]\n', b'null\n', b'{"name":1}\n'))
            )
        return f'{action} {place}', b''.join(lines)
