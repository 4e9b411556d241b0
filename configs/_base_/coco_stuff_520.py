# COCO-Stuff 10k, version 1.1, 171 classes, 60,000 iterations of 16 images. Deviations: 107 epochs
# of 562 iterations, 3 of them to warm up (1,686 iterations instead of 1,500).
_base_ = ['ocr_520.py']
layout = dict(
    data_root='{{$COCO_STUFF_ROOT:data/coco_stuff10k}}',
    data_prefix=dict(img='images', mask='annotations'),
    classes='coco_stuff_10k',
    img_suffix='.jpg',
    mask_suffix='.mat',
)
train_dataloader = dict(dataset=dict(**layout, ann_file='imageLists/train.txt'))
val_dataloader = dict(dataset=dict(**layout, ann_file='imageLists/test.txt'))
test_dataloader = val_dataloader

train_cfg = dict(by_epoch=True, max_epochs=107, val_interval=9)
param_scheduler = [
    dict(type='LinearLR', begin=0, end=3, start_factor=1e-6, convert_to_iter_based=True),
    dict(type='PolyLR', begin=3, end=107, power=0.9, convert_to_iter_based=True),
]
model = dict(head=dict(num_classes=171, ohem_threshold=0.9, ohem_min_kept=100_000))
