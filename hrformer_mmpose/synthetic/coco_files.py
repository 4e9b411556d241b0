"""Contents of COCO's files for synthetic people: head of the annotations, simulated detections."""

import numpy as np

from .people import KEYPOINTS

_SKELETON = (
    (16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7), (6, 8), (7, 9),
    (8, 10), (9, 11), (2, 3), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7),
)  # fmt: skip


def empty_coco(parameters: dict) -> dict:
    """Return the top level of COCO's format without images."""
    info = dict(description='Synthetic people with exact key points', **parameters)
    person = dict(
        supercategory='person', id=1, name='person', keypoints=KEYPOINTS, skeleton=_SKELETON
    )
    licenses = [
        dict(id=1, name='Apache License 2.0', url='https://www.apache.org/licenses/LICENSE-2.0')
    ]
    return dict(info=info, licenses=licenses, images=[], annotations=[], categories=[person])


def simulate_detections(data: dict, seed: int) -> list[dict]:
    """Simulate detections: true boxes with noise, and false positives of low score."""
    rng = np.random.default_rng([seed, 2])
    sizes = {image['id']: (image['width'], image['height']) for image in data['images']}
    boxes = []
    for annotation in data['annotations']:
        box = np.array(annotation['bbox'])
        box += rng.normal(0, 0.025, 4) * box[[2, 3, 2, 3]]
        boxes.append((annotation['image_id'], box, rng.uniform(0.7, 0.999)))
    for image_id, (width, height) in sizes.items():
        for _ in range(rng.integers(3)):
            w, h = rng.uniform(0.08, 0.5) * width, rng.uniform(0.15, 0.8) * height
            box = np.array([rng.uniform(0, width - w), rng.uniform(0, height - h), w, h])
            boxes.append((image_id, box, rng.uniform(0.01, 0.35)))
    return [_detection(image_id, box, score, sizes[image_id]) for image_id, box, score in boxes]


def _detection(image_id: int, box: np.ndarray, score: float, size: tuple[int, int]) -> dict:
    """Return an entry of the detection file, with the xywh box clipped to the image."""
    low = np.clip(box[:2], 0, size)
    high = np.clip(box[:2] + box[2:], low, size)
    bbox = [round(float(n), 2) for n in (*low, *(high - low))]
    return dict(bbox=bbox, category_id=1, image_id=image_id, score=round(float(score), 4))
