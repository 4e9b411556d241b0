# Ablation: padded tokens masked as keys (paper, section 3.1).
_base_ = ['../hrformer_tiny_coco_256x192.py']
model = dict(backbone=dict(with_pad_mask=True))
