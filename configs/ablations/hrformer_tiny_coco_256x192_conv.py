# Ablation: residual units instead of transformer blocks (paper, table 11: "HRNet-T").
_base_ = ['../hrformer_tiny_coco_256x192.py']
model = dict(backbone=dict(block='conv'))
