# HRNet in HRFormer-T's layout, with HRNet's full convolutions in the fusion: the authors'
# hrnet_w18_small_v2, very probably the "HRNet-T" of the paper's table 11.
_base_ = ['hrnet_w32_coco_256x192.py']
model = dict(
    backbone=dict(
        extra=dict(
            stage1=dict(num_blocks=(2,)),
            stage2=dict(num_blocks=(2, 2), num_channels=(18, 36)),
            stage3=dict(num_modules=3, num_blocks=(2, 2, 2), num_channels=(18, 36, 72)),
            stage4=dict(num_modules=2, num_blocks=(2, 2, 2, 2), num_channels=(18, 36, 72, 144)),
        )
    ),
    head=dict(in_channels=18),
)
