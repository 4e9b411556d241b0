"""Conversion of keypoints between two definitions, as MMPose's KeypointConverter does it."""

import numpy as np

from ..errors import ConfigError

Converter = tuple[int, np.ndarray, np.ndarray]  # number of keypoints, sources, targets


def convert_keypoints(
    keypoints: np.ndarray, count: int, sources: np.ndarray, targets: np.ndarray
) -> np.ndarray:
    """Convert keypoints to another definition; unmapped keypoints are zeros.

    Args:
        keypoints: (P, K, ...).
        count: number of keypoints of the other definition.
        sources: (M,) indices in this definition.
        targets: (M,) indices of the same keypoints in the other definition.

    Returns:
        (P, count, ...).
    """
    result = np.zeros((len(keypoints), count, *keypoints.shape[2:]), keypoints.dtype)
    result[:, targets] = keypoints[:, sources]
    return result


def parse_converter(name: str, converter: dict | None) -> Converter | None:
    """Parse a KeypointConverter config to (number of keypoints, sources, targets)."""
    if converter is None:
        return None
    try:
        pairs = np.array(converter['mapping'], np.intp).reshape(-1, 2)
        return int(converter['num_keypoints']), pairs[:, 0], pairs[:, 1]
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f'CocoMetric: {name} is not dict(num_keypoints=..., mapping=[(from, to), ...])'
        ) from error


def convert_sigmas(sigmas: np.ndarray, converter: Converter | None) -> np.ndarray:
    """Convert the sigmas of OKS; those of unmapped keypoints are 1."""
    if converter is None:
        return sigmas
    count, sources, targets = converter
    result = np.ones(count, sigmas.dtype)
    result[targets] = sigmas[sources]
    return result
