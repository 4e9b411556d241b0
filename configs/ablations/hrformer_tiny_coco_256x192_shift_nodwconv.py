# Ablation: shifted windows instead of the convolution (paper, table 9).
_base_ = ['../hrformer_tiny_coco_256x192.py']
model = dict(backbone=dict(with_dwconv=False, shift_windows=True))
