# UDP: crops, flips and targets measure distances between pixel centres (docs/codecs.md).
_base_ = ['coco_256x192.py']

codec = dict(_base_.codec, type='hrformer_mmpose.UDPHeatmap', blur_kernel_size=11)
changed = {
    'hrformer_mmpose.TopdownAffine': dict(use_udp=True),
    'GenerateTarget': dict(encoder=codec),
}
train_pipeline = [dict(step, **changed.get(step['type'], {})) for step in _base_.train_pipeline]
val_pipeline = [dict(step, **changed.get(step['type'], {})) for step in _base_.val_pipeline]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = val_dataloader
del changed
