_base_ = ['../_base_/imagenet_224.py']
model = dict(
    backbone=dict(arch='small', drop_path_rate=0.0), head=dict(in_channels=(32, 64, 128, 256))
)
