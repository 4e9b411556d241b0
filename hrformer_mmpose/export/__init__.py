"""From a checkpoint to a file that runs without PyTorch.

A config's network -> a graph that takes crops and gives keypoints (`graph`) -> ONNX, with what the
file says of itself (`files`) -> OpenVINO's format, half precision -> a report of how far the file's
poses are from PyTorch's on real crops (`report`). `runtime` runs the files.
"""
