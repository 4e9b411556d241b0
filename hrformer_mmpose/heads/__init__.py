"""Heads for heatmaps, classification and segmentation."""
