# PRTR with HRNet-W32: the same learning rate everywhere, halved at epochs 70 and 95, 4 GPUs x 16
# images. Backbone and neck start from HRNet's classifier (MMPretrain's copy of its authors' file).
_base_ = ['prtr.py']
imagenet = dict(
    type='Pretrained',
    checkpoint='https://download.openmmlab.com/mmclassification/v0/hrnet/hrnet-w32_3rdparty_8xb32_in1k_20220120-c394f1ab.pth',
)
model = dict(
    data_preprocessor=dict(bgr_to_rgb=True),
    backbone=dict(
        _delete_=True,
        type='hrformer_mmpose.HRNet',
        extra=dict(
            stage1=dict(
                num_modules=1,
                num_branches=1,
                block='BOTTLENECK',
                num_blocks=(4,),
                num_channels=(64,),
            ),
            stage2=dict(
                num_modules=1,
                num_branches=2,
                block='BASIC',
                num_blocks=(4, 4),
                num_channels=(32, 64),
            ),
            stage3=dict(
                num_modules=4,
                num_branches=3,
                block='BASIC',
                num_blocks=(4, 4, 4),
                num_channels=(32, 64, 128),
            ),
            stage4=dict(
                num_modules=3,
                num_branches=4,
                block='BASIC',
                num_blocks=(4, 4, 4, 4),
                num_channels=(32, 64, 128, 256),
                multiscale_output=True,
            ),
        ),
        init_cfg=imagenet,
    ),
    neck=dict(
        type='hrformer_mmpose.HRFuseScales', in_channels=(32, 64, 128, 256), init_cfg=imagenet
    ),
)
optim_wrapper = dict(paramwise_cfg=dict(_delete_=True))
param_scheduler = [
    dict(type='MultiStepLR', begin=0, end=200, milestones=[70, 95], gamma=0.5, by_epoch=True)
]
auto_scale_lr = dict(base_batch_size=64)
