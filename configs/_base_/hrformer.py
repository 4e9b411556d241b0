# Top-down heatmap regression on HRFormer's highest-resolution map.
model = dict(
    type='TopdownPoseEstimator',
    data_preprocessor=dict(
        type='hrformer_mmpose.PoseDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        type='hrformer_mmpose.HRFormer', norm_cfg=dict(type='SyncBN', requires_grad=True)
    ),
    head=dict(
        type='hrformer_mmpose.HeatmapHead',
        out_channels=17,
        deconv_out_channels=None,
        loss=dict(type='KeypointMSELoss', use_target_weight=True),
    ),
    # The codec sets the alignment of mirrored heatmaps (shift_heatmap, flip_mode).
    test_cfg=dict(flip_test=True),
)
