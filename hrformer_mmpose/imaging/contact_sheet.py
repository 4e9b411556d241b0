"""Pictures of a run: predictions beside the truth, and loss and AP over time."""

import json
from pathlib import Path

import cv2
import numpy as np

from .drawing import LEFT, MIDDLE, RIGHT, side_color  # noqa: F401 (the key to colours)
from .skeleton import COCO


def draw_pose(image: np.ndarray, keypoints: np.ndarray, shown: np.ndarray) -> None:
    """Draw one person into `image`; the colours tell the side (`runtime/drawing.py`).

    Args:
        image: (H, W, 3) BGR uint8, changed in place.
        keypoints: (17, 2) in pixels of `image`.
        shown: (17,) bool, which keypoints to draw.
    """
    points = [tuple(round(16 * float(c)) for c in point) for point in keypoints]
    thick = max(1, round(image.shape[0] / 140))
    for a, b in COCO.links:
        if shown[a] and shown[b]:
            cv2.line(
                image, points[a], points[b], side_color(COCO, a, b), thick, cv2.LINE_AA, shift=4
            )
    for k in np.flatnonzero(shown):
        radius = 16 * (thick + 1)
        cv2.circle(image, points[k], radius, (255, 255, 255), -1, cv2.LINE_AA, shift=4)
        cv2.circle(image, points[k], radius - 12, side_color(COCO, k), -1, cv2.LINE_AA, shift=4)


def _panel(image: np.ndarray, box, keypoints, shown, height: int, title: str) -> np.ndarray:
    """A person cut out of `image` around `box` (xywh), with a pose and a title."""
    x, y, w, h = box
    side = 1.15 * max(h, w / 0.75)
    matrix = np.array(
        [[1, 0, 0.375 * side - (x + w / 2)], [0, 1, side / 2 - (y + h / 2)]], np.float32
    ) * (height / side)
    panel = cv2.warpAffine(image, matrix, (round(0.75 * height), height), flags=cv2.INTER_AREA)
    draw_pose(panel, keypoints @ matrix[:, :2].T + matrix[:, 2], shown)
    cv2.putText(panel, title, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(panel, title, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255,) * 3, 1, cv2.LINE_AA)
    return panel


def prediction_sheet(
    predictions: list[dict], ann_file: str, path: str, count: int = 12, height: int = 240
) -> None:
    """Write a sheet of truth (left) and prediction (right), evenly spread over the persons.

    Args:
        predictions: what `tools/test.py --dump` wrote: one dict a person.
        ann_file: COCO annotations; `id` of a prediction is the annotation's.
        path: the PNG to write.
        count: how many persons. height: of one person, in pixels.
    """
    truth = {ann['id']: ann for ann in json.loads(Path(ann_file).read_text())['annotations']}
    chosen = np.unique(np.linspace(0, len(predictions) - 1, count).round().astype(int))
    pairs = []
    for index in chosen:
        prediction = predictions[index]
        ann = truth[prediction['id']]
        image = cv2.imread(prediction['img_path'])
        labelled = np.asarray(ann['keypoints'], float).reshape(17, 3)
        found = prediction['pred_instances']
        scores = np.asarray(found['keypoint_scores'][0])
        pairs.append(
            pair(
                image,
                ann['bbox'],
                (labelled[:, :2], labelled[:, 2] > 0, 'truth'),
                (np.asarray(found['keypoints'][0]), scores > 0.2, f'predicted {scores.mean():.2f}'),
                height,
            )
        )
    write_sheet(pairs, path)


def pair(image: np.ndarray, box, left: tuple, right: tuple, height: int) -> np.ndarray:
    """A person cut out around `box` (xywh) twice, with another pose each.

    Args:
        image: (H, W, 3) BGR uint8. left, right: keypoints (17, 2), which to draw (17,), title.
        height: in pixels.
    """
    panels = [_panel(image, box, *pose[:2], height, pose[2]) for pose in (left, right)]
    joined = np.hstack([panels[0], np.full((height, 2, 3), 255, np.uint8), panels[1]])
    return cv2.copyMakeBorder(joined, 6, 6, 6, 6, cv2.BORDER_CONSTANT, value=(40,) * 3)


def write_sheet(pairs: list[np.ndarray], path: str, columns: int = 3) -> None:
    """Write pictures of equal size, of which there is one at least, row by row to a PNG."""
    pairs = pairs + [np.full_like(pairs[0], 40)] * (-len(pairs) % columns)
    rows = [np.hstack(pairs[i : i + columns]) for i in range(0, len(pairs), columns)]
    cv2.imwrite(path, np.vstack(rows))


def read_scalars(work_dir: str) -> tuple[dict[int, float], dict[int, float]]:
    """Loss by iteration and AP by epoch, from all that the runs in a work folder logged."""
    loss, ap = {}, {}
    for file in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        for line in file.read_text().splitlines():
            row = json.loads(line)
            if 'loss' in row:
                loss[row['step']] = row['loss']
            elif 'coco/AP' in row:
                ap[row['step']] = row['coco/AP']
    return loss, ap


def training_curves(work_dir: str, path: str) -> None:
    """Write a picture of loss and validation AP over a run to `path` (PNG)."""
    from matplotlib.figure import Figure  # without pyplot: no window system is asked for

    loss, ap = read_scalars(work_dir)
    figure = Figure(figsize=(9, 3.6), layout='constrained')
    left, right = figure.subplots(1, 2)
    left.plot(*zip(*sorted(loss.items()), strict=True), color='#d1603d')
    left.set(xlabel='iteration', ylabel='training loss (heatmap MSE)', yscale='log')
    if ap:
        right.plot(*zip(*sorted(ap.items()), strict=True), 'o-', color='#2a6f97')
        last = max(ap)
        right.annotate(f'{ap[last]:.3f}', (last, ap[last]), (0, 7), textcoords='offset points')
    right.set(xlabel='epoch', ylabel='AP on held-out people', ylim=(0, 1))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.spines[['top', 'right']].set_visible(False)
    figure.savefig(path, dpi=120)
