# TransPose-H-A6 (Yang et al., ICCV 2021; paper, table 3): HRNet-W48 up to stage 3, then 6 layers of
# a transformer encoder on its pixels. Data and evaluation are HRFormer's; schedule, targets and
# decoding (DARK) and the start from HRNet's ImageNet weights are the authors'.
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/schedule_transpose.py',
    '../_base_/coco_256x192_dark.py',
    '../_base_/hrnet_w32.py',
]
pretrained = dict(
    type='Pretrained',
    checkpoint='https://download.openmmlab.com/mmpose/pretrain_models/hrnet_w48-8ef0771d.pth',
)
model = dict(
    backbone=dict(
        type='hrformer_mmpose.HRNet',
        num_stages=3,
        extra=dict(
            stage2=dict(num_channels=(48, 96)),
            stage3=dict(num_channels=(48, 96, 192)),
        ),
        init_cfg=pretrained,
    ),
    head=dict(
        type='hrformer_mmpose.TransPoseHead',
        in_channels=48,
        map_size=(64, 48),
        channels=96,
        depth=6,
        num_heads=1,
        feedforward_channels=192,
        decoder=_base_.codec,
    ),
)
# The learning rate is for 4 GPUs x 14 images.
train_dataloader = dict(batch_size=14)
auto_scale_lr = dict(enable=False, base_batch_size=56)
