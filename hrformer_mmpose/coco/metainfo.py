"""Reading and checking of keypoint meta information (names, flips, weights, sigmas)."""

import os.path as osp
from collections.abc import Mapping
from typing import Any

import mmpose
from mmpose.datasets.datasets.utils import parse_pose_metainfo

from ..errors import ConfigError

REQUIRED = 'dataset_name, keypoint_info, skeleton_info, joint_weights, sigmas'


def locate(metainfo: Mapping[str, Any]) -> dict[str, Any]:
    """Replace MMPose's relative path of a file that its package contains by the full path.

    Args:
        metainfo: of a data set. `from_file='configs/_base_/datasets/NAME.py'` names a file of the
            package, unless the working directory has it; MMPose finds it, too, with a warning.
    """
    path = metainfo.get('from_file')
    if isinstance(path, str) and not osp.isfile(path):
        shipped = osp.join(osp.dirname(mmpose.__file__), '.mim', path)
        if osp.isfile(shipped):
            return dict(metainfo, from_file=shipped)
    return dict(metainfo)


def parse_metainfo(metainfo: Mapping[str, Any]) -> dict[str, Any]:
    """Parse meta information by MMPose's `parse_pose_metainfo`, and check its lengths.

    Args:
        metainfo: the entries, or `from_file`, the path of a file with the entries, see `locate`.

    Raises:
        ConfigError: missing file, missing entry, or a number of weights or sigmas that differs
            from the number of keypoints.
    """
    path = metainfo.get('from_file')
    name = f"metainfo file '{path}'" if path else "the data set's metainfo"
    try:
        parsed = parse_pose_metainfo(locate(metainfo))
    except FileNotFoundError as error:
        raise ConfigError(f'{name} does not exist') from error
    except AssertionError as error:
        raise ConfigError(f'{name} lacks one of {REQUIRED}') from error
    except Exception as error:  # the file is Python code and may raise any exception
        reason = f'{type(error).__name__}: {error}'.splitlines()[0]
        raise ConfigError(f'{name} cannot be used: {reason}') from error
    count = parsed['num_keypoints']
    for key, name_in_file in (('dataset_keypoint_weights', 'joint_weights'), ('sigmas', 'sigmas')):
        if len(parsed[key]) not in (0, count):
            raise ConfigError(f'{name} has {len(parsed[key])} {name_in_file} for {count} keypoints')
    return parsed
