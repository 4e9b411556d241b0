# HRFormer-B, initialised from ImageNet weights.
_base_ = ['hrformer.py']
pretrained = dict(
    type='Pretrained',
    checkpoint='https://download.openmmlab.com/mmpose/pretrain_models/hrformer_base-32815020_20220226.pth',
)
model = dict(
    backbone=dict(arch='base', drop_path_rate=0.2, init_cfg=pretrained), head=dict(in_channels=78)
)
