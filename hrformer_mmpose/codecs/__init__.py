"""MMPose's heatmap codecs, vectorised, and PRTR's coordinates; they decode on the device."""

from .coordinate_label import CoordinateLabel
from .msra_heatmap import MSRAHeatmap
from .udp_heatmap import UDPHeatmap

__all__ = ['CoordinateLabel', 'MSRAHeatmap', 'UDPHeatmap']
