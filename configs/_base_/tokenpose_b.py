# TokenPose-B (Li et al., ICCV 2021): HRNet-W32 up to stage 3, then 12 layers of keypoint tokens.
_base_ = ['hrnet_w32.py']
pretrained = dict(
    type='Pretrained',
    checkpoint='https://download.openmmlab.com/mmpose/pretrain_models/hrnet_w32-36af842e.pth',
)
model = dict(
    backbone=dict(type='hrformer_mmpose.HRNet', num_stages=3, init_cfg=pretrained),
    head=dict(
        _delete_=True,
        type='hrformer_mmpose.TokenPoseHead',
        in_channels=32,
        out_channels=17,
        map_size=(64, 48),
        patch_size=(4, 3),
        heatmap_size=(64, 48),
        depths=(12,),
        num_heads=8,
        loss=dict(type='KeypointMSELoss', use_target_weight=True),
    ),
)
