# PVT-S, MMPose's class, with SimpleBaseline's head.
_base_ = ['../_base_/top_down.py']
model = dict(
    backbone=dict(
        _delete_=True,
        type='PyramidVisionTransformer',
        num_layers=[3, 4, 6, 3],
        out_indices=(3,),
    ),
    head=dict(in_channels=512, deconv_out_channels=(256, 256, 256), decoder=_base_.codec),
)
