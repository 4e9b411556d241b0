# ViT-L/16 with SimpleBaseline's head (paper, table 10).
_base_ = ['vit_base_coco_256x192.py']
model = dict(
    backbone=dict(channels=1024, depth=24, num_heads=16, drop_path_rate=0.5),
    head=dict(in_channels=1024),
)
