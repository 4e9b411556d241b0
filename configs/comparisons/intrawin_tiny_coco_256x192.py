# Swin-T without shifted windows (paper, table 8).
_base_ = ['swin_tiny_coco_256x192.py']
model = dict(backbone=dict(shift=False))
