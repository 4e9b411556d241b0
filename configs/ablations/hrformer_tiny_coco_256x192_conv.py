# Ablation: residual units in place of the transformer blocks (paper, table 11: "HRNet-T").
_base_ = ['../hrformer_tiny_coco_256x192.py']
model = dict(backbone=dict(block='conv'))
