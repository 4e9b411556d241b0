# Swin-T without the shift, with the depth-wise convolution (paper, table 8).
_base_ = ['intrawin_tiny_coco_256x192.py']
model = dict(backbone=dict(with_dwconv=True))
