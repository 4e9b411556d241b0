# HRFormer-S, initialised from ImageNet weights.
_base_ = ['hrformer.py']
pretrained = dict(
    type='Pretrained',
    checkpoint='https://download.openmmlab.com/mmpose/pretrain_models/hrformer_small-09516375_20220226.pth',
)
model = dict(
    backbone=dict(arch='small', drop_path_rate=0.1, init_cfg=pretrained), head=dict(in_channels=32)
)
