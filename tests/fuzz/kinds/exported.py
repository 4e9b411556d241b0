"""Exported networks: damaged `.onnx`, `.xml` and `.bin` files, and changed descriptions."""

import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from hrformer_mmpose.inference.estimator import PoseRuntime
from tests.fuzz.materials import Materials, picture
from tests.fuzz.mutate import mutate_bytes, mutate_tree


class Exported:
    """Files that `PoseRuntime` opens, with the poses of an image."""

    name = 'exported'
    isolate = executes = False

    def __init__(self, materials: Materials):
        self.onnx, self.xml = materials.onnx.read_bytes(), materials.xml.read_bytes()
        self.bin = materials.xml.with_suffix('.bin').read_bytes()
        self.image = picture(random.Random(5), 90, 120)
        self.paths = materials.onnx, materials.xml
        self.expected: dict[str, np.ndarray] = {}

    def make(self, rng: random.Random, folder: Path) -> tuple[str, Any]:
        """A file and the backend that opens it."""
        kind = rng.choices(
            ('onnx', 'description', 'xml', 'bin', 'onnx in openvino'), (50, 20, 12, 9, 9)
        )[0]
        suffix = '.xml' if kind in ('xml', 'bin') else '.onnx'
        path = folder / f'network{suffix}'
        files = {'onnx': self.onnx, 'xml': self.xml, 'bin': self.bin}
        part = 'onnx' if suffix == '.onnx' else kind
        if kind == 'description':
            name, files['onnx'] = self._description(rng)
        elif kind == 'xml' and rng.random() < 0.5:
            name, files['xml'] = self._text(rng)
        else:
            name, files[part] = mutate_bytes(rng, files[part])
        if suffix == '.onnx':
            path.write_bytes(files['onnx'])
        else:
            path.write_bytes(files['xml'])
            path.with_suffix('.bin').write_bytes(files['bin'])
        backend = 'openvino' if 'openvino' in kind or suffix == '.xml' else 'onnxruntime'
        return f'{kind}: {name}', (path, backend)

    def judge(self, given: tuple[Path, str]) -> None:
        """The poses are those of the undamaged file."""
        path, backend = given
        poses = PoseRuntime(path, backend, threads=1)(self.image, 'whole-image')
        found = np.column_stack([poses[0].keypoints, poses[0].scores])
        if backend not in self.expected:
            whole = PoseRuntime(self.paths[path.suffix == '.xml'], backend, threads=1)
            pose = whole(self.image, 'whole-image')[0]
            self.expected[backend] = np.column_stack([pose.keypoints, pose.scores])
        assert found.shape == self.expected[backend].shape, 'another number of keypoints'
        error = np.abs(found - self.expected[backend]).max()
        assert error < 1e-3, 'other poses'

    def _description(self, rng: random.Random) -> tuple[str, bytes]:
        """The file's description with entries changed."""
        model = onnx.load_from_string(self.onnx)
        entry = next(prop for prop in model.metadata_props if 'input_size' in prop.value)
        name, changed = mutate_tree(rng, json.loads(entry.value))
        entry.value = json.dumps(changed)
        return name, model.SerializeToString()

    def _text(self, rng: random.Random) -> tuple[str, bytes]:
        """Numbers and names of the XML."""
        text = self.xml.decode()
        values = [*re.finditer(r'"([^"]*)"', text)]
        match = rng.choice(values)
        new = rng.choice(
            ('-1', '0', '99999999999', 'nan', '', 'x', '1,2,3', match[1] + '1', '&#0;')
        )
        return f'{match[1][:20]} -> {new}', (
            text[: match.start(1)] + new + text[match.end(1) :]
        ).encode()
