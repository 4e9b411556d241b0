"""Models for MMEngine's runner: image classification and semantic segmentation."""
