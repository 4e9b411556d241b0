# HRFormer-T on the built-in data set of synthetic people; minutes on two CPU cores (make demo).
_base_ = ['../_base_/default_runtime.py', '../_base_/hrformer.py', '../_base_/coco_256x192.py']

max_epochs = 7
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=2)
val_cfg = dict()
test_cfg = dict()

# At 112 x 84 the first maps are 28 x 21 and 14 x 11, so that windows of 7 have almost no padding.
# People are small there: one deconvolution doubles the resolution, and UDP gives sub-pixel targets.
codec = dict(
    type='hrformer_mmpose.UDPHeatmap',
    input_size=(84, 112),
    heatmap_size=(42, 56),
    sigma=2,
    blur_kernel_size=7,
)
model = dict(
    backbone=dict(arch='tiny'),
    head=dict(in_channels=18, deconv_out_channels=(32,), deconv_kernel_sizes=(4,), decoder=codec),
)

optim_wrapper = dict(
    type='hrformer_mmpose.AutoAmpOptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, betas=(0.9, 0.99), weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.0, custom_keys={'relative_position_bias_table': dict(decay_mult=0.0)}
    ),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', begin=0, end=100, start_factor=0.01, by_epoch=False),
    dict(
        type='CosineAnnealingLR',
        begin=0,
        end=max_epochs,
        T_max=max_epochs,
        eta_min=1e-5,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(enable=False, base_batch_size=16)

train_pipeline = [
    dict(type='hrformer_mmpose.LoadImage'),
    dict(type='GetBBoxCenterScale'),
    dict(type='RandomFlip', direction='horizontal'),
    dict(
        type='hrformer_mmpose.RandomBBoxTransform',
        shift_factor=0.05,
        scale_factor=(0.9, 1.1),
        rotate_factor=15,
        rotate_prob=0.5,
    ),
    dict(type='hrformer_mmpose.TopdownAffine', input_size=codec['input_size'], use_udp=True),
    dict(type='GenerateTarget', encoder=codec),
    dict(type='PackPoseInputs'),
]
val_pipeline = [
    dict(type='hrformer_mmpose.LoadImage'),
    dict(type='GetBBoxCenterScale'),
    dict(type='hrformer_mmpose.TopdownAffine', input_size=codec['input_size'], use_udp=True),
    dict(type='PackPoseInputs'),
]

# Annotated boxes. With two cores, loading in the training process is faster than a worker.
data_root = '{{$DEMO_ROOT:data/demo}}'
train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root=data_root, pipeline=train_pipeline),
)
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root=data_root, bbox_file=None, pipeline=val_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=f'{data_root}/annotations/person_keypoints_val2017.json')
test_evaluator = val_evaluator

default_hooks = dict(logger=dict(interval=10))
