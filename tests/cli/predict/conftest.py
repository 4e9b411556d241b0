"""`hrformer predict` with a network whose answer is known, in a folder of a few images."""

import json
from pathlib import Path

import pytest

from hrformer_mmpose.cli import predict
from hrformer_mmpose.imaging.skeleton import COCO
from hrformer_mmpose.inference.estimator import Estimator
from tests.inference.helpers import Brightest

from .helpers import PHOTOS, coco_box, hrformer, photo


class Network(Brightest):
    """Counts the crops of all runs; ends a run with `error` after `left` of them."""

    def __init__(self):
        super().__init__()
        self.left, self.error = float('inf'), None

    def predict(self, batch):
        if len(batch) > self.left:
            raise self.error
        self.left -= len(batch)
        return super().predict(batch)

    @property
    def seen(self) -> int:
        return sum(self.batches)


@pytest.fixture
def network(monkeypatch) -> Network:
    network = Network()

    def estimator(args):
        return Estimator(network, args.batch_size, args.box_threshold or 0.0, 'skip')

    monkeypatch.setattr(predict, 'open_estimator', estimator)
    return network


@pytest.fixture
def folder(tmp_path, monkeypatch, network) -> Path:
    """A working directory with the images of `PHOTOS`, spots at x = 20, 28, ..., and a model."""
    monkeypatch.chdir(tmp_path)
    for name in ('RANK', 'WORLD_SIZE'):
        monkeypatch.delenv(name, raising=False)
    for number, name in enumerate(PHOTOS):
        photo(name, 20 + 8 * number)
    Path('m.onnx').touch()
    return tmp_path


@pytest.fixture
def run(folder, monkeypatch, capsys):
    def run(*arguments: str, boxes: str = 'whole-image', out: str = 'out'):
        flags = ['--model', 'm.onnx', '--boxes', boxes, '--out', out]
        return hrformer(monkeypatch, capsys, 'predict', *arguments, *flags)

    return run


@pytest.fixture
def annotated(folder) -> dict:
    """boxes.json: an annotation file of three images, with odd numbers; the images in val."""
    images, annotations = [], []
    for number, image_id in enumerate((900, 17, 52)):
        name = f'{number}.png'
        photo(f'val/{name}', 20 + 12 * number)
        images.append(dict(id=image_id, file_name=name, width=80, height=60))
        keypoints = [20 + 12 * number, 30, 2] * 17
        annotations.append(
            dict(id=number + 1, iscrowd=0, area=1000, num_keypoints=17, keypoints=keypoints)
            | coco_box(8 + 12 * number, image_id)
        )
    category = dict(id=1, name='person', keypoints=list(COCO.names), skeleton=[])
    content = dict(images=images, annotations=annotations, categories=[category])
    Path('boxes.json').write_text(json.dumps(content))
    return content
