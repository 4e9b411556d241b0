# Ablation: windows of 15 x 15 (paper, section 3.1: K).
_base_ = ['../hrformer_tiny_coco_256x192.py']
arch = dict(
    _delete_=True,
    num_modules=(1, 1, 3, 2),
    channels=(18, 36, 72, 144),
    num_heads=(1, 2, 4, 8),
    window_sizes=(15, 15, 15, 15),
)
model = dict(backbone=dict(arch=arch))
