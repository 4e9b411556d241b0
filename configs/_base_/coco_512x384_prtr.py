# Coordinates at 512x384 (height x width).
_base_ = ['coco_384x288_prtr.py']

codec = dict(type='hrformer_mmpose.CoordinateLabel', input_size=(384, 512))
resized = {
    'hrformer_mmpose.TopdownAffine': dict(input_size=codec['input_size']),
    'GenerateTarget': dict(encoder=codec),
}
train_pipeline = [dict(step, **resized.get(step['type'], {})) for step in _base_.train_pipeline]
val_pipeline = [dict(step, **resized.get(step['type'], {})) for step in _base_.val_pipeline]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = val_dataloader
del resized
