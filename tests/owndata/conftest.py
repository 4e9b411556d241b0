"""Small sets of keypoints under names of their own."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

TAKEN = {'Nose': 0, 'L_Hand': 9, 'R_Hand': 10, 'L_Foot': 15, 'R_Foot': 16}  # of COCO's 17


def five(content: dict, taken: dict[str, int] = TAKEN) -> dict:
    """Five of COCO's keypoints (or those of `taken`), renamed, of persons with a box."""
    columns = list(taken.values())
    annotations = []
    for annotation in content['annotations']:
        rows = np.reshape(annotation['keypoints'], (17, 3))[columns]
        entry = {key: annotation[key] for key in ('id', 'image_id', 'bbox', 'area', 'iscrowd')}
        count = int((rows[:, 2] > 0).sum())
        entry.update(category_id=1, keypoints=rows.ravel().tolist(), num_keypoints=count)
        annotations.append(entry)
    category = dict(id=1, name='person', keypoints=list(taken), skeleton=[[1, 2], [1, 3], [1, 4]])
    images = [
        {key: image[key] for key in ('id', 'file_name', 'width', 'height')}
        for image in content['images']
    ]
    return dict(images=images, annotations=annotations, categories=[category])


@pytest.fixture(scope='session')
def coco_mini(shared) -> Path:
    root = shared / 'data' / 'coco-mini'
    if not root.is_dir():
        pytest.skip('needs ../shared/data/coco-mini')
    return root


@pytest.fixture(scope='session')
def five_of_coco(coco_mini) -> tuple[dict, Path]:
    """The 168 training images with five keypoints, and their folder."""
    path = coco_mini / 'annotations/person_keypoints_train2017.json'
    return five(json.loads(path.read_text())), coco_mini / 'train2017'


def alone_in_its_box(person: dict, others: list[dict]) -> bool:
    """Whether all points are in the person's box, and in no other person's."""
    rows = np.reshape(person['keypoints'], (-1, 3))
    shown = rows[rows[:, 2] > 0, :2]

    def inside(bbox) -> np.ndarray:
        x, y, w, h = bbox
        return ((shown >= (x, y)) & (shown <= (x + w, y + h))).all(1)

    others = [o for o in others if o is not person]
    return inside(person['bbox']).all() and not any(inside(o['bbox']).any() for o in others)


@pytest.fixture
def three_persons(five_of_coco, tmp_path) -> tuple[dict, Path]:
    """Three persons on two images: two on the first, one of them hidden in part."""
    content, folder = five_of_coco
    by_image: dict = {}
    for annotation in content['annotations']:
        if not annotation['iscrowd'] and annotation['num_keypoints'] >= 3:
            by_image.setdefault(annotation['image_id'], []).append(annotation)
    easy = [p for p in by_image.values() if all(alone_in_its_box(a, p) for a in p)]
    pairs = [p for p in easy if len(p) == 2 and any(1 in a['keypoints'][2::3] for a in p)]
    persons = [*pairs[0], *next(p for p in easy if len(p) == 1)]
    images = {person['image_id'] for person in persons}
    (tmp_path / 'images').mkdir()
    chosen = [image for image in content['images'] if image['id'] in images]
    for image in chosen:
        shutil.copy(folder / image['file_name'], tmp_path / 'images')
    small = dict(images=chosen, annotations=persons, categories=content['categories'])
    return small, tmp_path / 'images'


@pytest.fixture
def drawn(synthetic_root) -> tuple[dict, Path]:
    """Generated people with five keypoints, a copy for each test, and the folder of images."""
    path = synthetic_root / 'annotations/person_keypoints_train2017.json'
    return five(json.loads(path.read_text())), synthetic_root / 'train2017'
