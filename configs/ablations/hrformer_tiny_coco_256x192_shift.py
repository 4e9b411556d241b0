# Ablation: shifted windows in addition to the convolution (for Swin-T: paper, table 8).
_base_ = ['../hrformer_tiny_coco_256x192.py']
model = dict(backbone=dict(shift_windows=True))
