_base_ = ['../_base_/pascal_context_520.py']
model = dict(
    backbone=dict(
        arch='base',
        drop_path_rate=0.2,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://download.openmmlab.com/mmpose/pretrain_models/hrformer_base-32815020_20220226.pth',
        ),
    ),
    head=dict(in_channels=(78, 156, 312, 624)),
)
