"""MMPose's metainfo of a set of keypoints, as a Python module."""

from collections.abc import Sequence

from ..imaging import drawing, sides
from ..imaging.skeleton import Skeleton

# Half-body augmentation crops to one of these; other keypoints belong to neither half.
UPPER = {'nose', 'eye', 'ear', 'shoulder', 'elbow', 'wrist', 'head', 'neck', 'head_top', 'top_head'}
LOWER = {'hip', 'knee', 'ankle', 'big_toe', 'small_toe', 'heel'}


def text(name: str, skeleton: Skeleton, sigmas: Sequence[float], about: Sequence[str]) -> str:
    """Return the module's text.

    Args:
        name: of the data set.
        skeleton: names, edges and flips.
        sigmas: one a keypoint.
        about: lines for the comment at the top.
    """
    keypoints = [
        f'        {k}: dict(name={keypoint!r}, id={k}, color={_color(skeleton, k)}, '
        f'type={_half(keypoint)!r}, swap={_swap(skeleton, k)!r}),'
        for k, keypoint in enumerate(skeleton.names)
    ]
    links = [
        f'        {number}: dict(link={(skeleton.names[a], skeleton.names[b])!r}, id={number}, '
        f'color={_color(skeleton, a, b)}),'
        for number, (a, b) in enumerate(skeleton.links)
    ]
    return '\n'.join(
        [
            *(f'# {line}' for line in about),
            'dataset_info = dict(',
            f'    dataset_name={name!r},',
            '    keypoint_info={',
            *keypoints,
            '    },',
            '    skeleton_info={',
            *links,
            '    },',
            f'    joint_weights=[1.0] * {len(skeleton.names)},',
            f'    sigmas={list(sigmas)},',
            ')',
            '',
        ]
    )


def _color(skeleton: Skeleton, *keypoints: int) -> list[int]:
    """Return the RGB color of the side, as in drawn poses."""
    return list(drawing.side_color(skeleton, *keypoints)[::-1])


def _swap(skeleton: Skeleton, keypoint: int) -> str:
    mirror = skeleton.flip_indices[keypoint]
    return '' if mirror == keypoint else skeleton.names[mirror]


def _half(keypoint: str) -> str:
    part = sides.part(keypoint)
    return 'upper' if part in UPPER else 'lower' if part in LOWER else ''
