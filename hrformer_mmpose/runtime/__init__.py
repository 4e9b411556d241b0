"""Poses without PyTorch: NumPy, OpenCV and onnxruntime or OpenVINO are all that is needed.

    from hrformer_mmpose.runtime import PoseRuntime
    poses = PoseRuntime('hrformer.onnx')('image.jpg', boxes=[[10, 20, 110, 320]])

Data flow: images (`images`) and boxes (`crops`, `detectors`) -> crops of all persons in batches ->
a network (`networks`) -> keypoints, brought back to the image -> records (`poses`), in the order of
the images (`estimator`). `hrformer_mmpose.PoseEstimator` goes the same way with a network of
PyTorch.
"""

from .estimator import PoseRuntime
from .poses import COCO, Pose, Skeleton, to_supervision

__all__ = ['COCO', 'Pose', 'PoseRuntime', 'Skeleton', 'to_supervision']
