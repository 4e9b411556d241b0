"""MMPose's heatmap codecs, vectorised, with decoding on the heatmaps' device."""

from .msra_heatmap import MSRAHeatmap
from .udp_heatmap import UDPHeatmap

__all__ = ['MSRAHeatmap', 'UDPHeatmap']
