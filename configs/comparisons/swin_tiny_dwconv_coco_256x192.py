# Swin-T with shifted windows and depth-wise convolution (paper, table 8).
_base_ = ['swin_tiny_coco_256x192.py']
model = dict(backbone=dict(with_dwconv=True))
