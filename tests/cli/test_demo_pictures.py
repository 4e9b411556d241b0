"""The demo's pictures, read back."""

import json

import cv2
import numpy as np
import pytest

from hrformer_mmpose.cli import demo_pictures


@pytest.mark.parametrize('K', [17, 3])
def test_the_sheet_shows_truth_and_prediction_side_by_side(synthetic_root, tmp_path, K):
    data = json.loads((synthetic_root / 'annotations/person_keypoints_val2017.json').read_text())
    for ann in data['annotations']:
        ann['keypoints'] = ann['keypoints'][: 3 * K]
    category = data['categories'][0]
    links = [link for link in category['skeleton'] if max(link) <= K]
    category.update(keypoints=category['keypoints'][:K], skeleton=links)
    ann_file = tmp_path / 'annotations.json'
    ann_file.write_text(json.dumps(data))
    names = {image['id']: image['file_name'] for image in data['images']}
    predictions = [
        dict(
            id=ann['id'],
            img_path=str(synthetic_root / 'val2017' / names[ann['image_id']]),
            pred_instances=dict(
                keypoints=np.reshape(ann['keypoints'], (1, K, 3))[..., :2],
                keypoint_scores=np.reshape(ann['keypoints'], (1, K, 3))[..., 2] / 2,
            ),
        )
        for ann in data['annotations']
    ]
    path = tmp_path / 'sheet.png'
    demo_pictures.prediction_sheet(predictions, str(ann_file), str(path), count=4, height=120)
    sheet = cv2.imread(str(path))
    assert sheet.shape == (2 * 132, 3 * (182 + 12), 3)
    # A perfect prediction looks like the truth, below the titles.
    left, right = sheet[30:120, 6:96], sheet[30:120, 98:188]
    assert np.mean(left != right) < 0.02
    assert np.std(left) > 5


def test_curves_of_a_resumed_run_are_joined(tmp_path):
    rows = [dict(loss=0.5, step=10), dict(loss=0.4, step=20), {'coco/AP': 0.2, 'step': 1}]
    rows += [dict(loss=0.3, step=30), {'coco/AP': 0.6, 'step': 2}]
    for folder, part in (('a', rows[:3]), ('b', rows[3:])):
        file = tmp_path / folder / 'vis_data' / 'scalars.json'
        file.parent.mkdir(parents=True)
        cut_off = '{"loss": 0.2, "st' if folder == 'a' else ''  # by the end of the first run
        file.write_text('\n'.join([*map(json.dumps, part), cut_off]))
    loss, ap = demo_pictures.read_scalars(str(tmp_path))
    assert loss == {10: 0.5, 20: 0.4, 30: 0.3}
    assert ap == {1: 0.2, 2: 0.6}
    demo_pictures.training_curves(str(tmp_path), str(tmp_path / 'curves.png'))
    assert cv2.imread(str(tmp_path / 'curves.png')).shape[0] == pytest.approx(432, abs=2)
