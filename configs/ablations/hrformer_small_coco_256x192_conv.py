# Ablation: residual units instead of transformer blocks (paper, table 11: "HRNet-S").
_base_ = ['../hrformer_small_coco_256x192.py']
model = dict(backbone=dict(block='conv', init_cfg=None))
