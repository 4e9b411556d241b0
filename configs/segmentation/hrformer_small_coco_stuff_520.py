_base_ = ['../_base_/coco_stuff_520.py']
model = dict(
    backbone=dict(
        arch='small',
        drop_path_rate=0.2,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://download.openmmlab.com/mmpose/pretrain_models/hrformer_small-09516375_20220226.pth',
        ),
    ),
    head=dict(in_channels=(32, 64, 128, 256)),
)
