# ViT-B/16 or DeiT-B, depending on the weights, with SimpleBaseline's head (paper, table 10).
_base_ = ['../_base_/top_down.py']
model = dict(
    backbone=dict(
        _delete_=True,
        type='hrformer_mmpose.VisionTransformer',
        image_size=(256, 192),
        drop_path_rate=0.3,
    ),
    head=dict(
        in_channels=768,
        deconv_out_channels=(256, 256),
        deconv_kernel_sizes=(4, 4),
        decoder=_base_.codec,
    ),
)
