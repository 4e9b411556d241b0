# HRFormer-T on synthetic shapes: a small pre-training run, minutes on two CPU cores.
_base_ = ['../imagenet/hrformer_tiny_imagenet_224.py']

data_root = '{{$SHAPES_ROOT:data/shapes}}'
loaded = [dict(type='hrformer_mmpose.LoadImage')]
packed = [dict(type='hrformer_mmpose.PackImage')]
train_pipeline = [
    *loaded,
    dict(type='hrformer_mmpose.RandomResizedCrop', size=64, area=(0.6, 1.0)),
    dict(type='hrformer_mmpose.RandAugment', magnitude=3),
    dict(type='hrformer_mmpose.RandomErasing', probability=0.1),
    *packed,
]
test_pipeline = [*loaded, dict(type='hrformer_mmpose.CenterCrop', size=64, share=1.0), *packed]
train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    persistent_workers=False,
    drop_last=False,
    dataset=dict(data_root=data_root, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=50,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root=data_root, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(topk=(1, 2))
test_evaluator = val_evaluator

max_epochs = 8
train_cfg = dict(max_epochs=max_epochs, val_interval=2)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = [
    dict(type='LinearLR', begin=0, end=1, start_factor=0.1, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        begin=1,
        end=max_epochs,
        eta_min_ratio=0.01,
        convert_to_iter_based=True,
    ),
]
# Too few iterations for mixed images.
model = dict(head=dict(num_classes=5, label_smooth=0.0), mixup=0.0, cutmix=0.0)
default_hooks = dict(logger=dict(interval=10))
