# Swin-T without shifted windows, with depth-wise convolution (paper, table 8).
_base_ = ['intrawin_tiny_coco_256x192.py']
model = dict(backbone=dict(with_dwconv=True))
