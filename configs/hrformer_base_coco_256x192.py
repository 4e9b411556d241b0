_base_ = [
    '_base_/default_runtime.py',
    '_base_/schedule_coco_210e.py',
    '_base_/hrformer.py',
    '_base_/coco_256x192.py',
]
pretrained = dict(
    type='Pretrained',
    checkpoint='https://download.openmmlab.com/mmpose/pretrain_models/hrformer_base-32815020_20220226.pth',
)
model = dict(
    backbone=dict(arch='base', drop_path_rate=0.2, init_cfg=pretrained),
    head=dict(in_channels=78, decoder=_base_.codec),
)
