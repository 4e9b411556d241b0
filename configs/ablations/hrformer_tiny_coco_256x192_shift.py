# Ablation: windows shifted beside the convolution (the paper asks that of Swin-T, table 8).
_base_ = ['../hrformer_tiny_coco_256x192.py']
model = dict(backbone=dict(shift_windows=True))
