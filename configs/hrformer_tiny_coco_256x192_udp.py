# UDP: crops, flips and targets measure from pixel centre to pixel centre (docs/codecs.md).
_base_ = 'hrformer_tiny_coco_256x192.py'

codec = {**_base_.codec, 'type': 'hrformer_mmpose.UDPHeatmap', 'blur_kernel_size': 11}
model = dict(head=dict(decoder=codec))
train_pipeline, val_pipeline = _base_.train_pipeline, _base_.val_pipeline
train_pipeline[-3].update(use_udp=True)  # TopdownAffine
train_pipeline[-2].update(encoder=codec)  # GenerateTarget
val_pipeline[-2].update(use_udp=True)  # TopdownAffine
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = val_dataloader
