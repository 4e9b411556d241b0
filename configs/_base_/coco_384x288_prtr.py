# Coordinates at 384x288 (height x width), with the augmentation of the authors of PRTR: no shifted
# boxes, no halves of bodies, and scale by at most 30 %.
_base_ = ['coco_256x192.py']

label = dict(type='hrformer_mmpose.CoordinateLabel', input_size=(288, 384))
codec = dict(_delete_=True, **label)
resized = {'hrformer_mmpose.TopdownAffine': dict(input_size=label['input_size'])}
val_pipeline = [dict(step, **resized.get(step['type'], {})) for step in _base_.val_pipeline]
train_pipeline = [
    dict(type='hrformer_mmpose.LoadImage'),
    dict(type='GetBBoxCenterScale'),
    dict(type='RandomFlip', direction='horizontal'),
    dict(
        type='hrformer_mmpose.RandomBBoxTransform',
        distribution='clipped',
        shift_prob=0.0,
        scale_factor=(0.7, 1.3),
    ),
    dict(type='hrformer_mmpose.TopdownAffine', input_size=label['input_size']),
    dict(type='GenerateTarget', encoder=label),
    dict(type='PackPoseInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = val_dataloader
del label, resized
