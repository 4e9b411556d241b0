# HRFormer-S with TokenPose-B's head instead of a convolution. Data, schedule, codec and evaluation
# are HRFormer's.
_base_ = ['../hrformer_small_coco_256x192.py']
model = dict(
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
        decoder=_base_.codec,
    )
)
