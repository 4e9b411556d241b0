# Ablation: real tokens do not attend to padded ones (paper, section 3.1).
_base_ = ['../hrformer_tiny_coco_256x192.py']
model = dict(backbone=dict(with_pad_mask=True))
