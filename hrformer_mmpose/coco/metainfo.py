"""Meta information of keypoints (names, flips, weights, sigmas), read and checked."""

from collections.abc import Mapping
from typing import Any

from mmpose.datasets.datasets.utils import parse_pose_metainfo

from ..errors import ConfigError

NEEDED = 'dataset_name, keypoint_info, skeleton_info, joint_weights, sigmas'


def parse_metainfo(metainfo: Mapping[str, Any]) -> dict[str, Any]:
    """MMPose's `parse_pose_metainfo`, with as many weights and sigmas as keypoints (or none).

    Args:
        metainfo: the entries, or `from_file` with the path of a file of them.

    Raises:
        ConfigError: the file does not exist, or something is missing.
    """
    path = metainfo.get('from_file')
    name = f"metainfo file '{path}'" if path else "the data set's metainfo"
    try:
        parsed = parse_pose_metainfo(metainfo)
    except FileNotFoundError as error:
        raise ConfigError(f'{name} does not exist') from error
    except AssertionError as error:
        raise ConfigError(f'{name} lacks one of {NEEDED}') from error
    except Exception as error:  # the file is Python and may raise anything
        why = f'{type(error).__name__}: {error}'.splitlines()[0]
        raise ConfigError(f'{name} cannot be used: {why}') from error
    count = parsed['num_keypoints']
    for key, given in (('dataset_keypoint_weights', 'joint_weights'), ('sigmas', 'sigmas')):
        if len(parsed[key]) not in (0, count):
            raise ConfigError(f'{name} has {len(parsed[key])} {given} for {count} keypoints')
    return parsed
