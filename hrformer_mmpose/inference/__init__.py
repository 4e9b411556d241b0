"""Poses on images, without PyTorch: NumPy, OpenCV and onnxruntime or OpenVINO suffice.

    from hrformer_mmpose.inference import PoseRuntime
    poses = PoseRuntime('hrformer.onnx')('image.jpg', boxes=[[10, 20, 110, 320]])

Data flow: images and boxes (`pairing`, `detectors`) -> crops, read ahead by a thread
(`crop_reader`) -> batches across images (`estimator`) -> network (`networks`) -> keypoints in the
image, in the order of the images. `hrformer_mmpose.PoseEstimator` does the same with a PyTorch
network (`torch_network`).
"""

from ..imaging.poses import Pose, to_supervision
from ..imaging.skeleton import COCO, Skeleton
from .estimator import PoseRuntime

__all__ = ['COCO', 'Pose', 'PoseRuntime', 'Skeleton', 'to_supervision']
