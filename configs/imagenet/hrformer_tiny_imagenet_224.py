_base_ = ['../_base_/imagenet_224.py']
model = dict(
    backbone=dict(arch='tiny', drop_path_rate=0.0), head=dict(in_channels=(18, 36, 72, 144))
)
