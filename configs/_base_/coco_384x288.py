# COCO keypoints at 384x288 (height x width), heatmaps at a quarter of it.
_base_ = ['coco_256x192.py']

codec = dict(
    type='hrformer_mmpose.MSRAHeatmap', input_size=(288, 384), heatmap_size=(72, 96), sigma=3
)

train_pipeline = [
    dict(type='hrformer_mmpose.LoadImage'),
    dict(type='GetBBoxCenterScale'),
    dict(type='RandomFlip', direction='horizontal'),
    dict(type='RandomHalfBody'),
    dict(type='hrformer_mmpose.RandomBBoxTransform'),
    dict(type='hrformer_mmpose.TopdownAffine', input_size=codec['input_size']),
    dict(type='GenerateTarget', encoder=codec),
    dict(type='PackPoseInputs'),
]
val_pipeline = [
    dict(type='hrformer_mmpose.LoadImage'),
    dict(type='GetBBoxCenterScale'),
    dict(type='hrformer_mmpose.TopdownAffine', input_size=codec['input_size']),
    dict(type='PackPoseInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = val_dataloader
