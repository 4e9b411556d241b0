"""Files of person boxes: COCO's detections and annotations as `--boxes` takes them."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np

from hrformer_mmpose.inference.detectors import CocoDetections, UnknownImageError
from tests.fuzz.materials import Materials
from tests.fuzz.mutate import mutate_json


class Detections:
    """Files read by `CocoDetections`, then looked up by file name."""

    name = 'detections'
    isolate = executes = False

    def __init__(self, materials: Materials):
        folder = materials.data / 'annotations'
        self.annotations = json.loads((folder / 'person_keypoints_val2017.json').read_text())
        self.images = {image['file_name']: image['id'] for image in self.annotations['images']}
        generator = np.random.default_rng(2)
        self.detections = [
            dict(
                image_id=image,
                category_id=1,
                bbox=generator.uniform(1, 60, 4).round(2).tolist(),
                score=round(generator.uniform(), 3),
            )
            for image in self.images.values()
            for _ in range(3)
        ]

    def make(self, rng: random.Random, folder: Path) -> tuple[str, Any]:
        """A file of boxes and, for detections, perhaps the file of their images."""
        kind = rng.choice(('detections', 'detections', 'annotations'))
        name, data = mutate_json(rng, getattr(self, kind))
        path, images = folder / 'boxes.json', None
        path.write_bytes(data)
        if kind == 'detections' and rng.random() < 0.5:
            images = folder / 'images.json'
            content = json.dumps(self.annotations).encode()
            if rng.random() < 0.3:
                more, content = mutate_json(rng, self.annotations)
                name = f'{name}; images: {more}'
            images.write_bytes(content)
        return f'{kind}: {name}', (path, images, rng.choice((0.0, 0.3)))

    def judge(self, given: tuple[Path, Path | None, float]) -> None:
        """Boxes are finite rows (n, 5), with area, highest score first."""
        path, images, threshold = given
        boxes = CocoDetections(path, images, threshold=threshold)
        assert len([*boxes]) == len(boxes)
        for name in [*[*boxes][:20], *self.images]:
            try:
                rows = boxes[name]
            except UnknownImageError:
                continue
            assert rows.ndim == 2
            assert rows.shape[1] == 5
            assert np.isfinite(rows).all(), 'a box that is not finite'
            assert (rows[:, 2:4] > rows[:, :2]).all(), 'a box without area'
            assert (np.diff(rows[:, 4]) <= 0).all(), 'scores that rise'
