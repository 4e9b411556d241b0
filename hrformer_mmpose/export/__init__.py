"""Export of a checkpoint to a file that runs without PyTorch.

The config's network -> a graph from crops to keypoints (`graph`) -> ONNX with a description in its
metadata (`files`) -> OpenVINO's format, half precision -> a comparison of its poses with PyTorch's
(`report`). `inference` runs the files.
"""
