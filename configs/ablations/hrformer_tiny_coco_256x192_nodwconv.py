# Ablation: no depth-wise convolution in the FFN (paper, table 7).
_base_ = ['../hrformer_tiny_coco_256x192.py']
model = dict(backbone=dict(with_dwconv=False))
