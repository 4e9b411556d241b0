"""Keypoints to heatmaps and back: MMPose's codecs, vectorised, decoding where the heatmaps are."""

from .msra_heatmap import MSRAHeatmap
from .udp_heatmap import UDPHeatmap

__all__ = ['MSRAHeatmap', 'UDPHeatmap']
