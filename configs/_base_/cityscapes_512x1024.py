# Cityscapes, fine annotations: data of the authors' seg/configs/cityscapes/H_48_D_4.json, 80,000
# iterations of 8 images. Deviations: 215 epochs of 372 iterations, 4 of them to warm up (1,488
# iterations instead of 1,500).
_base_ = ['ocr.py']
data_root = '{{$CITYSCAPES_ROOT:data/cityscapes}}'
crop_size = (512, 1024)
loaded = [dict(type='hrformer_mmpose.LoadImage'), dict(type='hrformer_mmpose.LoadMask')]
packed = [dict(type='hrformer_mmpose.PackMask')]
train_pipeline = [
    *loaded,
    dict(
        type='hrformer_mmpose.RandomScaleCrop',
        size=crop_size,
        scale=(0.5, 2.0),
        aspect=(0.9, 1.1),
        flip=0.5,
    ),
    dict(type='hrformer_mmpose.RandomBrightness', shift=10),
    *packed,
]
test_pipeline = [*loaded, *packed]
layout = dict(
    type='hrformer_mmpose.MaskFolder',
    data_root=data_root,
    classes='cityscapes',
    img_suffix='_leftImg8bit.png',
    mask_suffix='_gtFine_labelIds.png',
)
train_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='hrformer_mmpose.DefaultSampler', shuffle=True),
    dataset=dict(
        **layout,
        data_prefix=dict(img='leftImg8bit/train', mask='gtFine/train'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='hrformer_mmpose.DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        **layout,
        data_prefix=dict(img='leftImg8bit/val', mask='gtFine/val'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

train_cfg = dict(by_epoch=True, max_epochs=215, val_interval=5)
param_scheduler = [
    dict(type='LinearLR', begin=0, end=4, start_factor=1e-6, convert_to_iter_based=True),
    dict(type='PolyLR', begin=4, end=215, power=0.9, convert_to_iter_based=True),
]
# The learning rate is for 8 GPUs x 1 image; --auto-scale-lr scales it to the actual batch size.
auto_scale_lr = dict(enable=False, base_batch_size=8)

model = dict(
    head=dict(
        num_classes=19,
        ohem_threshold=0.9,
        ohem_min_kept=100_000,
        class_weight=(
            *(0.8373, 0.918, 0.866, 1.0345, 1.0166, 0.9969, 0.9754, 1.0489, 0.8786, 1.0023),
            *(0.9539, 0.9843, 1.1116, 0.9037, 1.0865, 1.0955, 1.0865, 1.1529, 1.0507),
        ),
    )
)
