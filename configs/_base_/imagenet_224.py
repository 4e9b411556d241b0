_base_ = ['default_runtime.py']

# ImageNet classification with the authors' recipe (docs/data.md, "Recipes"): AdamW, 300 epochs,
# cosine schedule, 20 warm-up epochs, RandAugment m9, mixup 0.8, CutMix 1.0, random erasing 0.25,
# gradient clipping at 5.
data_root = '{{$IMAGENET_ROOT:data/imagenet}}'
loaded = [dict(type='hrformer_mmpose.LoadImage')]
packed = [dict(type='hrformer_mmpose.PackImage')]
train_pipeline = [
    *loaded,
    dict(type='hrformer_mmpose.RandomResizedCrop', size=224),
    dict(type='hrformer_mmpose.RandAugment', magnitude=9, spread=0.5),
    dict(type='hrformer_mmpose.RandomErasing', probability=0.25),
    *packed,
]
test_pipeline = [*loaded, dict(type='hrformer_mmpose.CenterCrop', size=224), *packed]

train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='hrformer_mmpose.DefaultSampler', shuffle=True),
    dataset=dict(
        type='hrformer_mmpose.ImageFolder',
        data_root=data_root,
        data_prefix=dict(img='train'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='hrformer_mmpose.DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type='hrformer_mmpose.ImageFolder',
        data_root=data_root,
        data_prefix=dict(img='val'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='hrformer_mmpose.Accuracy', topk=(1, 5))
test_evaluator = val_evaluator

train_cfg = dict(by_epoch=True, max_epochs=300, val_interval=5)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    type='hrformer_mmpose.AutoAmpOptimWrapper',
    loss_scale='dynamic',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05),
    # As in the authors' code: the relative position bias decays here, but not in pose estimation.
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=5.0),
)
# From 1e-6 to 1e-3, then down to 1e-5. The cosine includes the warm-up, as in timm.
param_scheduler = [
    dict(type='LinearLR', begin=0, end=20, start_factor=1e-3, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', begin=0, end=300, eta_min_ratio=0.01, convert_to_iter_based=True
    ),
]
# The learning rate is for 8 GPUs x 128 images; --auto-scale-lr scales it to the actual batch size.
auto_scale_lr = dict(enable=False, base_batch_size=1024)

model = dict(
    type='hrformer_mmpose.ImageClassifier',
    data_preprocessor=dict(
        type='ImgDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        type='hrformer_mmpose.HRFormer',
        multiscale_output=True,
        align_corners=True,  # as the authors' classification networks
        norm_cfg=dict(type='BN'),
    ),
    head=dict(
        type='hrformer_mmpose.ClassificationHead',
        num_classes=1000,
        label_smooth=0.1,
        norm_cfg=dict(type='BN'),
    ),
    mixup=0.8,
    cutmix=1.0,
)
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))
