"""Poses without PyTorch: NumPy, OpenCV and onnxruntime or OpenVINO are all that is needed.

    from hrformer_mmpose.inference import PoseRuntime
    poses = PoseRuntime('hrformer.onnx')('image.jpg', boxes=[[10, 20, 110, 320]])

Data flow: images (`images`) and boxes (`crops`, `detectors`) -> crops of all persons in batches ->
a network (`networks`) -> keypoints, brought back to the image -> records (`poses`), in the order of
the images (`estimator`). `hrformer_mmpose.PoseEstimator` goes the same way with a network of
PyTorch.
"""

from ..imaging.poses import Pose, to_supervision
from ..imaging.skeleton import COCO, Skeleton
from .estimator import PoseRuntime

__all__ = ['COCO', 'Pose', 'PoseRuntime', 'Skeleton', 'to_supervision']
