# Square crops of 256x256, heatmaps at a quarter of it: for animals, hands and MPII.
_base_ = ['coco_256x192.py']

codec = dict(_base_.codec, input_size=(256, 256), heatmap_size=(64, 64))
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
