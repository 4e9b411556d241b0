# COCO keypoints at 384x288 (height x width), heatmaps at a quarter of it.
_base_ = ['coco_256x192.py']

codec = dict(
    type='hrformer_mmpose.MSRAHeatmap', input_size=(288, 384), heatmap_size=(72, 96), sigma=3
)
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
