# PRTR (CVPR 2021), second stage, with ResNet-50 and the schedule of its authors: AdamW in float32,
# 200 epochs, learning rate halved at epochs 120 and 140, a tenth of it for the backbone.
_base_ = ['default_runtime.py']

model = dict(
    type='TopdownPoseEstimator',
    # The authors' ResNets see BGR images, normalised by ImageNet's statistics of R, G and B.
    data_preprocessor=dict(
        type='hrformer_mmpose.PoseDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=False,
    ),
    # As in DETR: BatchNorm is frozen, stem and first stage too.
    backbone=dict(
        type='hrformer_mmpose.ResNet',
        depth=50,
        frozen_stages=1,
        norm_eval=True,
        norm_cfg=dict(type='BN', requires_grad=False),
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://download.pytorch.org/models/resnet50-0676ba61.pth',
        ),
    ),
    head=dict(type='hrformer_mmpose.PRTRHead', in_channels=2048, num_joints=17),
    test_cfg=dict(flip_test=True),
)

train_cfg = dict(by_epoch=True, max_epochs=200, val_interval=10)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.1)}),
    clip_grad=dict(max_norm=0.1),
)
param_scheduler = [
    dict(type='MultiStepLR', begin=0, end=200, milestones=[120, 140], gamma=0.5, by_epoch=True)
]
# The learning rate is for 4 GPUs x 32 images; --auto-scale-lr scales it to the actual batch size.
auto_scale_lr = dict(enable=False, base_batch_size=128)
