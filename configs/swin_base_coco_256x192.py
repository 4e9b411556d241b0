# Swin-B with SimpleBaseline's head (paper, table 10).
_base_ = ['_base_/top_down.py']
model = dict(
    backbone=dict(
        _delete_=True,
        type='hrformer_mmpose.SwinTransformer',
        embed_dims=128,
        depths=[2, 2, 18, 2],
        num_heads=[4, 8, 16, 32],
        window_size=7,
        drop_path_rate=0.3,
        out_indices=(3,),
    ),
    head=dict(in_channels=1024, deconv_out_channels=(256, 256, 256), decoder=_base_.codec),
)
