"""Small files of each ready-made data set, in the set's own format, with generated people.

Images and boxes are those of the built-in people. Keypoints that COCO does not have are fixed
mixtures of the body's, so that each lies inside its person.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.io import savemat

DETECTIONS = 'person_detection_results/COCO_val2017_detections_AP_H_56_person.json'


@dataclass(frozen=True)
class ReadyMade:
    """A ready-made set.

    Attributes:
        variable: environment variable of its root.
        size: of the crops, in the configs' names.
        keypoints: K.
        write: write the set for generated people to a folder.
        mmpose: MMPose's class of the set.
    """

    variable: str
    size: str
    keypoints: int
    write: Callable[[Path, Path], None]
    mmpose: str


def people(root: Path, split: str) -> dict:
    """Annotations of the generated people."""
    return json.loads((root / f'annotations/person_keypoints_{split}2017.json').read_text())


def points(ann: dict, count: int, seed: int, visibilities=(0, 1, 2, 2)) -> np.ndarray:
    """Draw (count, 3) keypoints: mixtures of the person's, with visibilities."""
    body = np.reshape(ann['keypoints'], (17, 3))
    body = body[body[:, 2] > 0, :2]
    rng = np.random.default_rng([seed, ann['id']])
    mixed = rng.dirichlet(np.ones(len(body)), count) @ body
    v = rng.choice(visibilities, count)
    v[:2] = max(visibilities)
    return np.column_stack([mixed.round(1) * (v[:, None] > 0), v])


def dump(path: Path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def link(source: Path, folder: Path, names: dict[str, str]) -> None:
    """Link images into a folder; `names` are their new names by file name."""
    for name, new in names.items():
        (folder / new).parent.mkdir(parents=True, exist_ok=True)
        (folder / new).symlink_to(source / name)


def rename(data: dict, source: Path, folder: Path, form: Callable[[int], str]) -> None:
    """Link the images of annotations into a folder under other names, which they get."""
    names = {image['file_name']: form(image['id']) for image in data['images']}
    link(source, folder, names)
    for image in data['images']:
        image['file_name'] = names[image['file_name']]


def without(entry: dict, *keys: str) -> dict:
    return {key: value for key, value in entry.items() if key not in keys}


def coco_wholebody(root: Path, source: Path) -> None:
    for split in ('train', 'val'):
        (root / f'{split}2017').symlink_to(source / f'{split}2017')
        data = people(source, split)
        images = [ann['image_id'] for ann in data['annotations']]
        for ann in data['annotations']:
            whole_body(ann, alone=images.count(ann['image_id']) == 1)
        dump(root / f'annotations/coco_wholebody_{split}_v1.0.json', data)
    boxes = next((source / 'person_detection_results').glob('*.json'))
    dump(root / DETECTIONS, json.loads(boxes.read_text()))


def whole_body(ann: dict, alone: bool) -> None:
    """Add COCO-WholeBody's fields; some people who are alone have a part that is not valid."""
    counts = dict(foot=6, face=68, lefthand=21, righthand=21)
    for seed, (part, count) in enumerate(counts.items()):
        fractions = (0.0, 0.3, 1.0) if part != 'foot' else (0, 1, 2)
        keypoints = points(ann, count, seed, fractions)
        valid = not alone or (ann['image_id'] + seed) % 4 > 0
        box = [*keypoints[:, :2].min(0), *np.ptp(keypoints[:, :2], axis=0)]
        ann[f'{part}_valid'] = valid
        ann[f'{part}_kpts'] = (keypoints * valid).ravel().tolist()
        if part != 'foot':
            ann[f'{part}_box'] = (np.array(box) * valid).tolist()


def coco_like(data: dict, count: int, *dropped: str, visibilities=(0, 1, 2, 2)) -> dict:
    """Give the annotations other keypoints, and drop fields."""
    for index, ann in enumerate(data['annotations']):
        keypoints = points(ann, count, 0, visibilities)
        ann = without(ann, *dropped)
        ann['keypoints'] = keypoints.ravel().tolist()
        if 'num_keypoints' in ann:
            ann['num_keypoints'] = int((keypoints[:, 2] > 0).sum())
        data['annotations'][index] = ann
    data['categories'][0] = dict(id=1, name='person', supercategory='person')
    return data


def crowdpose(root: Path, source: Path) -> None:
    for split, name in (('train', 'trainval'), ('val', 'test')):
        data = coco_like(people(source, split), 14, 'area', 'segmentation')
        for number, image in enumerate(data['images']):
            image['crowdIndex'] = (0.1, 0.5, 0.9)[number % 3]
        for ann in data['annotations']:  # CrowdPose counts the visible ones only
            ann['num_keypoints'] = ann['keypoints'][2::3].count(2)
        rename(data, source / f'{split}2017', root / 'images', '{}.jpg'.format)
        dump(root / f'annotations/mmpose_crowdpose_{name}.json', data)
    boxes = next((source / 'person_detection_results').glob('*.json'))
    dump(root / 'annotations/det_for_crowd_test_0.1_0.5.json', json.loads(boxes.read_text()))


def ochuman(root: Path, source: Path) -> None:
    for split, name in (('val', 'val'), ('train', 'test')):
        data = people(source, split)
        for ann in data['annotations']:  # areas of boxes, compressed masks
            ann.update(area=ann['bbox'][2] * ann['bbox'][3], segmentation=dict(counts='', size=[]))
        rename(data, source / f'{split}2017', root / 'images', '{:06d}.jpg'.format)
        dump(root / f'annotations/ochuman_coco_format_{name}_range_0.00_1.00.json', data)


def aic(root: Path, source: Path) -> None:
    folders = dict(
        train='ai_challenger_keypoint_train_20170902/keypoint_train_images_20170902',
        val='ai_challenger_keypoint_validation_20170911/keypoint_validation_images_20170911',
    )
    for split, folder in folders.items():
        data = coco_like(people(source, split), 14, 'area', 'iscrowd', 'segmentation')
        rename(data, source / f'{split}2017', root / folder, '{:040x}.jpg'.format)
        dump(root / f'annotations/aic_{split}.json', data)


def halpe26(root: Path, source: Path) -> None:
    for split in ('train', 'val'):
        data = coco_like(people(source, split), 136, 'segmentation')
        if split == 'train':
            folder = root / 'hico_20160224_det/images/train2015'
            rename(data, source / 'train2017', folder, 'HICO_train2015_{:08d}.jpg'.format)
        dump(root / f'annotations/halpe_{split}_v1.json', data)
    (root / 'val2017').symlink_to(source / 'val2017')


def ap10k(root: Path, source: Path) -> None:
    animals = ['antelope', 'cat', 'dog']
    for split, names in (('train', ['train']), ('val', ['val', 'test'])):
        data = coco_like(people(source, split), 17, 'segmentation', visibilities=(0, 2, 2))
        data['categories'] = [
            dict(id=number, name=name, supercategory='family', keypoints=['k'] * 17, skeleton=[])
            for number, name in enumerate(animals, 1)
        ]
        for number, ann in enumerate(data['annotations']):
            ann['category_id'] = 1 + number % 3
        for image in data['images']:
            image['background'] = 5
        rename(data, source / f'{split}2017', root / 'data', '{:012d}.jpg'.format)
        for name in names:
            dump(root / f'annotations/ap10k-{name}-split1.json', data)


def onehand10k(root: Path, source: Path) -> None:
    for split, name in (('train', 'train'), ('val', 'test')):
        data = coco_like(
            people(source, split), 21, 'segmentation', 'num_keypoints', visibilities=(0, 1, 1)
        )
        form = (name.title() + '/source/{}.jpg').format
        rename(data, source / f'{split}2017', root, form)
        dump(root / f'annotations/onehand10k_{name}.json', data)


def mpii(root: Path, source: Path) -> None:
    for split in ('train', 'val'):
        data = people(source, split)
        rename(data, source / f'{split}2017', root / 'images', '{:09d}.jpg'.format)
        names = {image['id']: image['file_name'] for image in data['images']}
        persons, heads = [], []
        for ann in data['annotations']:
            keypoints = points(ann, 16, 0, (0, 1, 1))
            keypoints[keypoints[:, 2] > 0, :2] += 1  # MPII counts pixels from 1
            keypoints[keypoints[:, 2] == 0, :2] = -1
            x, y, w, h = ann['bbox']
            persons.append(
                dict(
                    joints_vis=keypoints[:, 2].astype(int).tolist(),
                    joints=keypoints[:, :2].tolist(),
                    image=names[ann['image_id']],
                    scale=max(w, h) / 200,
                    center=[x + w / 2, y + h / 2],
                )
            )
            heads.append([[x, y], [x + w / 4, y + h / 4]])
        dump(root / f'annotations/mpii_{split}.json', persons)
    savemat(root / 'annotations/mpii_gt_val.mat', {'headboxes_src': np.transpose(heads, (1, 2, 0))})


SETS = dict(
    coco_wholebody=ReadyMade('COCO_ROOT', '256x192', 133, coco_wholebody, 'CocoWholeBodyDataset'),
    coco_wholebody_hand=ReadyMade(
        'COCO_ROOT', '256x256', 21, coco_wholebody, 'CocoWholeBodyHandDataset'
    ),
    onehand10k=ReadyMade('ONEHAND10K_ROOT', '256x256', 21, onehand10k, 'OneHand10KDataset'),
    crowdpose=ReadyMade('CROWDPOSE_ROOT', '256x192', 14, crowdpose, 'CrowdPoseDataset'),
    ochuman=ReadyMade('OCHUMAN_ROOT', '256x192', 17, ochuman, 'OCHumanDataset'),
    aic=ReadyMade('AIC_ROOT', '256x192', 14, aic, 'AicDataset'),
    halpe26=ReadyMade('HALPE_ROOT', '256x192', 26, halpe26, 'HalpeDataset'),
    ap10k=ReadyMade('AP10K_ROOT', '256x256', 17, ap10k, 'AP10KDataset'),
    mpii=ReadyMade('MPII_ROOT', '256x256', 16, mpii, 'MpiiDataset'),
)
