# PASCAL-Context, 59 classes, 60,000 iterations of 16 images. Deviations: 192 epochs of 312
# iterations, 5 of them to warm up (1,560 iterations instead of 1,500). The authors' scripts average
# the loss over all pixels, their README says OHEM; for that set model.head.ohem_threshold=0.7.
_base_ = ['ocr_520.py']
layout = dict(
    data_root='{{$PASCAL_CONTEXT_ROOT:data/VOCdevkit/VOC2010}}',
    data_prefix=dict(img='JPEGImages', mask='SegmentationClassContext'),
    classes='pascal_context',
    img_suffix='.jpg',
)
train_list = 'ImageSets/SegmentationContext/train.txt'
val_list = 'ImageSets/SegmentationContext/val.txt'
train_dataloader = dict(dataset=dict(**layout, ann_file=train_list))
val_dataloader = dict(dataset=dict(**layout, ann_file=val_list))
test_dataloader = val_dataloader

train_cfg = dict(by_epoch=True, max_epochs=192, val_interval=16)
param_scheduler = [
    dict(type='LinearLR', begin=0, end=5, start_factor=1e-6, convert_to_iter_based=True),
    dict(type='PolyLR', begin=5, end=192, power=0.9, convert_to_iter_based=True),
]
model = dict(head=dict(num_classes=59))
