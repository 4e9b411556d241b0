# TokenPose-L/D24: HRNet-W48 up to stage 3, then three stages of 8 layers, whose keypoint tokens are
# concatenated.
_base_ = ['tokenpose_b.py']
pretrained = dict(
    type='Pretrained',
    checkpoint='https://download.openmmlab.com/mmpose/pretrain_models/hrnet_w48-8ef0771d.pth',
)
model = dict(
    backbone=dict(
        extra=dict(
            stage2=dict(num_channels=(48, 96)),
            stage3=dict(num_channels=(48, 96, 192)),
        ),
        init_cfg=pretrained,
    ),
    head=dict(in_channels=48, depths=(8, 8, 8), num_heads=12),
)
