# Segmentation of the built-in synthetic people with HRFormer-T (synthetic FOLDER --masks).
_base_ = ['../_base_/default_runtime.py']

data_root = '{{$PEOPLE_ROOT:data/people}}'
size = (128, 160)
loaded = [dict(type='hrformer_mmpose.LoadImage')]
packed = [dict(type='hrformer_mmpose.PackMask')]
train_pipeline = [*loaded, dict(type='hrformer_mmpose.LoadMask', size=size, flip=0.5), *packed]
test_pipeline = [*loaded, dict(type='hrformer_mmpose.LoadMask', size=size), *packed]
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='hrformer_mmpose.DefaultSampler', shuffle=True),
    dataset=dict(
        type='hrformer_mmpose.MaskFolder',
        data_root=data_root,
        data_prefix=dict(img='train2017', mask='masks/train2017'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    drop_last=False,
    sampler=dict(type='hrformer_mmpose.DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type='hrformer_mmpose.MaskFolder',
        data_root=data_root,
        data_prefix=dict(img='val2017', mask='masks/val2017'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='hrformer_mmpose.IoU')
test_evaluator = val_evaluator

max_epochs = 6
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=2)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    type='hrformer_mmpose.AutoAmpOptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.99), weight_decay=0.05),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', begin=0, end=50, start_factor=0.01, by_epoch=False),
    dict(
        type='CosineAnnealingLR',
        begin=0,
        end=max_epochs,
        eta_min=1e-5,
        convert_to_iter_based=True,
    ),
]
model = dict(
    type='hrformer_mmpose.Segmentor',
    data_preprocessor=dict(
        type='ImgDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        type='hrformer_mmpose.HRFormer',
        arch='tiny',
        multiscale_output=True,
        align_corners=True,
        norm_cfg=dict(type='SyncBN'),
    ),
    head=dict(
        type='hrformer_mmpose.SegmentationHead',
        in_channels=(18, 36, 72, 144),
        num_classes=2,
        channels=64,
        norm_cfg=dict(type='SyncBN'),
    ),
)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(save_best='seg/mIoU'))
