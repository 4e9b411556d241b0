"""Heads for MMPose's pose estimators."""
