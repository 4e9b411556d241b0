_base_ = [
    '_base_/default_runtime.py',
    '_base_/schedule_coco_210e.py',
    '_base_/hrformer.py',
    '_base_/coco_384x288.py',
]
# The authors trained this one on 8 GPUs x 8 images with a drop path of 0.3, not as MMPose's config.
pretrained = dict(
    type='Pretrained',
    checkpoint='https://download.openmmlab.com/mmpose/pretrain_models/hrformer_base-32815020_20220226.pth',
)
model = dict(
    backbone=dict(arch='base', drop_path_rate=0.3, init_cfg=pretrained),
    head=dict(in_channels=78, decoder=_base_.codec),
)
train_dataloader = dict(batch_size=8)
auto_scale_lr = dict(base_batch_size=64)
