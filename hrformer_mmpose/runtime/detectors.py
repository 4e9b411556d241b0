"""Former name of `hrformer_mmpose.inference.detectors`, kept for scripts."""

from ..inference.detectors import *  # noqa: F403
