"""Write a COCO file's persons as other tools export them, in their layouts.

Each function returns the path that `hrformer new-dataset` takes. A keypoint of visibility 0 is not
written where the tool writes none.
"""

import json
from collections import defaultdict
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import numpy as np


def by_image(content: dict) -> list[tuple[dict, list[dict]]]:
    persons = defaultdict(list)
    for annotation in content['annotations']:
        persons[annotation['image_id']].append(annotation)
    return [(image, persons[image['id']]) for image in content['images']]


def points(content: dict, annotation: dict) -> list[tuple[str, float, float, int]]:
    names = content['categories'][0]['keypoints']
    rows = np.reshape(annotation['keypoints'], (-1, 3)).tolist()
    return [(name, x, y, int(v)) for name, (x, y, v) in zip(names, rows, strict=True)]


def coco(content: dict, folder: Path) -> Path:
    path = folder / 'coco.json'
    path.write_text(json.dumps(content))
    return path


def labelme(content: dict, folder: Path, images: str = '../images') -> Path:
    """One JSON an image, as LabelMe 5.5 saves it; hidden keypoints carry a flag."""
    folder = folder / 'labelme'
    folder.mkdir()
    for image, persons in by_image(content):
        shapes = []
        for group, person in enumerate(persons):
            x, y, w, h = person['bbox']
            corners = [[x + w, y + h], [x, y]]  # drawn from any corner
            shapes.append(_shape('person', corners, group, 'rectangle'))
            shapes += [
                _shape(name, [[px, py]], group, 'point', occluded=v == 1)
                for name, px, py, v in points(content, person)
                if v
            ]
        document = dict(
            version='5.5.0', flags={}, shapes=shapes, imageData=None,
            imagePath=f'{images}/{image["file_name"]}'.replace('/', '\\'),
            imageHeight=image['height'], imageWidth=image['width'],
        )  # fmt: skip
        name = Path(image['file_name']).stem
        (folder / f'{name}.json').write_text(json.dumps(document, indent=2), encoding='utf-8')
    return folder


def _shape(label: str, corners: list, group: int, kind: str, occluded: bool = False) -> dict:
    flags = {'occluded': True} if occluded else {}
    return dict(
        label=label, points=corners, group_id=group, description='', shape_type=kind, flags=flags,
        mask=None,
    )  # fmt: skip


def cvat(content: dict, folder: Path, kind: str = 'skeleton') -> Path:
    """`annotations.xml` of "CVAT for images 1.1"; kind 'skeleton' or 'points'."""
    category = content['categories'][0]
    images = []
    for number, (image, persons) in enumerate(by_image(content)):
        shapes = ''.join(
            _cvat_person(points(content, p), p['bbox'], group, kind)
            for group, p in enumerate(persons, 1)
        )
        images.append(
            f'  <image id="{number}" name={quoteattr(image["file_name"])} '
            f'width="{image["width"]}" height="{image["height"]}">\n{shapes}  </image>\n'
        )
    labels = _cvat_labels(category) if kind == 'skeleton' else ''
    path = folder / f'annotations-{kind}.xml'
    path.write_text(
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n'
        f'  <meta><task><id>1</id><name>task</name><labels>{labels}</labels></task></meta>\n'
        f'{"".join(images)}</annotations>\n',
        encoding='utf-8',
    )
    return path


def _cvat_person(rows: list, bbox: list[float], group: int, kind: str) -> str:
    x, y, w, h = bbox
    box = (
        f'    <box label="person" source="manual" occluded="0" xtl="{x:.2f}" ytl="{y:.2f}" '
        f'xbr="{x + w:.2f}" ybr="{y + h:.2f}" z_order="0" group_id="{group}">\n    </box>\n'
    )
    if kind == 'points':
        return box + ''.join(
            f'    <points label={quoteattr(name)} source="manual" occluded="{int(v == 1)}" '
            f'points="{px:.2f},{py:.2f}" z_order="0" group_id="{group}">\n    </points>\n'
            for name, px, py, v in rows
            if v
        )
    inner = ''.join(
        f'      <points label={quoteattr(name)} source="manual" outside="{int(v == 0)}" '
        f'occluded="{int(v == 1)}" points="{px:.2f},{py:.2f}">\n      </points>\n'
        for name, px, py, v in reversed(rows)  # in any order
    )
    return (
        f'    <skeleton label="person" source="manual" z_order="0" group_id="{group}">\n{inner}'
        f'    </skeleton>\n{box}'
    )


def _cvat_labels(category: dict) -> str:
    names = category['keypoints']
    drawing = ''.join(
        f'<line x1="1" y1="1" x2="2" y2="2" data-type="edge" data-node-from="{a}" '
        f'data-node-to="{b}"></line>'
        for a, b in category['skeleton']
    )
    drawing += ''.join(
        f'<circle r="0.75" cx="1" cy="1" data-type="element node" data-element-id="{k}" '
        f'data-node-id="{k}" data-label-name={quoteattr(name)}></circle>'
        for k, name in enumerate(names, 1)
    )
    points = ''.join(
        f'<label><name>{escape(name)}</name><color>#ff0000</color><type>points</type>'
        '<attributes></attributes><parent>person</parent></label>'
        for name in names
    )
    return (
        '<label><name>person</name><color>#00ff00</color><type>skeleton</type>'
        f'<attributes></attributes><svg>{escape(drawing)}</svg></label>{points}'
    )


def label_studio(content: dict, folder: Path) -> Path:
    """The export "JSON": uploaded files, percent of the image, points joined to their boxes."""
    tasks = []
    for number, (image, persons) in enumerate(by_image(content), 1):
        result: list[dict] = []
        for person in persons:
            result += _regions(content, image, person, f'p{person["id"]}')
        upload = f'0a1b2c3d-{image["file_name"]}'
        tasks.append(
            dict(
                id=number, file_upload=upload, data=dict(image=f'/data/upload/1/{upload}'),
                annotations=[dict(id=number, was_cancelled=False, result=result)], predictions=[],
            )
        )  # fmt: skip
    path = folder / 'project-1-at-2024.json'
    path.write_text(json.dumps(tasks))
    return path


def _regions(content: dict, image: dict, person: dict, key: str) -> list[dict]:
    size = image['width'], image['height']
    common = dict(
        original_width=size[0], original_height=size[1], image_rotation=0, to_name='image'
    )
    percent = np.divide(person['bbox'], [*size, *size]) * 100
    box = dict(zip(('x', 'y', 'width', 'height'), percent.tolist(), strict=True))
    regions = [
        dict(
            common, id=key, type='rectanglelabels', from_name='box', origin='manual',
            value=dict(box, rotation=0, rectanglelabels=['person']),
        )
    ]  # fmt: skip
    for name, x, y, v in points(content, person):
        if v:
            value = dict(x=100 * x / size[0], y=100 * y / size[1], width=0.3, keypointlabels=[name])
            regions.append(
                dict(
                    common, id=f'{key}-{name}', type='keypointlabels', from_name='kp',
                    origin='manual', parentID=key, value=value,
                )
            )  # fmt: skip
    return regions


def yolo(content: dict, folder: Path, images: Path, flips: list[int] | None = None) -> Path:
    """data.yaml, images/train and labels/train; images are linked."""
    root = folder / 'yolo'
    for part in ('images/train', 'labels/train'):
        (root / part).mkdir(parents=True)
    names = content['categories'][0]['keypoints']
    for image, persons in by_image(content):
        (root / 'images/train' / image['file_name']).symlink_to(images / image['file_name'])
        size = np.array([image['width'], image['height']])
        lines = []
        for person in persons:
            x, y, w, h = person['bbox']
            numbers = [*(np.array([x + w / 2, y + h / 2]) / size), *(np.array([w, h]) / size)]
            for _, px, py, v in points(content, person):
                numbers += [*(np.array([px, py]) / size), v] if v else [0, 0, 0]
            lines.append(' '.join(['0', *(f'{number:.6f}' for number in numbers)]))
        label = root / 'labels/train' / f'{Path(image["file_name"]).stem}.txt'
        label.write_text('\n'.join(lines) + '\n')
    flip = f'flip_idx: {flips}\n' if flips else ''
    (root / 'data.yaml').write_text(
        f'path: .\ntrain: images/train\nval:\nkpt_shape: [{len(names)}, 3]\n{flip}'
        f'names:\n  0: person\nkpt_names:\n  0: {json.dumps(names)}\n'
    )
    return root / 'data.yaml'
