# Crops of 520x520 of images whose shorter side has 520 pixels; the authors' data settings for
# PASCAL-Context and COCO-Stuff (seg/configs/{pascal_context,coco_stuff}/H_48_D_4.json).
_base_ = ['ocr.py']
crop_size = (520, 520)
loaded = [dict(type='hrformer_mmpose.LoadImage'), dict(type='hrformer_mmpose.LoadMask')]
packed = [dict(type='hrformer_mmpose.PackMask')]
train_pipeline = [
    *loaded,
    dict(type='hrformer_mmpose.ResizeShorterSide', size=520),
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
test_pipeline = [
    *loaded,
    dict(type='hrformer_mmpose.ResizeShorterSide', size=520, with_mask=False),
    *packed,
]
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='hrformer_mmpose.DefaultSampler', shuffle=True),
    dataset=dict(type='hrformer_mmpose.MaskFolder', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='hrformer_mmpose.DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(type='hrformer_mmpose.MaskFolder', test_mode=True, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
# The learning rate is for 8 GPUs x 2 images; --auto-scale-lr scales it to the actual batch size.
auto_scale_lr = dict(enable=False, base_batch_size=16)
