# Swin-B with SimpleBaseline's head (paper, table 10).
_base_ = ['swin_tiny_coco_256x192.py']
model = dict(
    backbone=dict(
        embed_dims=128, depths=[2, 2, 18, 2], num_heads=[4, 8, 16, 32], drop_path_rate=0.3
    ),
    head=dict(in_channels=1024),
)
