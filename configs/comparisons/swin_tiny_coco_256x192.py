# Swin-T with SimpleBaseline's head (paper, table 8).
_base_ = ['../_base_/top_down.py']
model = dict(
    backbone=dict(
        _delete_=True,
        type='hrformer_mmpose.SwinTransformer',
        embed_dims=96,
        depths=[2, 2, 6, 2],
        num_heads=[3, 6, 12, 24],
        window_size=7,
        drop_path_rate=0.2,
        out_indices=(3,),
    ),
    head=dict(in_channels=768, deconv_out_channels=(256, 256, 256), decoder=_base_.codec),
)
