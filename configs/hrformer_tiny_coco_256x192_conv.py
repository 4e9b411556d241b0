# Ablation (paper, table 11).
_base_ = ['hrformer_tiny_coco_256x192.py']
model = dict(backbone=dict(block='conv'))
