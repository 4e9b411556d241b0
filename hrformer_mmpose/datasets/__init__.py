"""Data sets, transforms, sampling and collation for MMPose."""
