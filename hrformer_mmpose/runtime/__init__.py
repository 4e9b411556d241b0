"""Former name of `hrformer_mmpose.inference`, kept for scripts."""

from ..inference import COCO, Pose, PoseRuntime, Skeleton, to_supervision

__all__ = ['COCO', 'Pose', 'PoseRuntime', 'Skeleton', 'to_supervision']
