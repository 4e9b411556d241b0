# HRNet's own augmentation: no shift, smaller changes of scale, larger rotations.
_base_ = ['coco_384x288.py']

bbox_transform = dict(
    type='hrformer_mmpose.RandomBBoxTransform',
    distribution='clipped',
    shift_prob=0.0,
    scale_factor=(0.65, 1.35),
    rotate_factor=90.0,
)
kept = [step for step in _base_.train_pipeline if step['type'] != bbox_transform['type']]
position = [step['type'] for step in kept].index('RandomHalfBody') + 1
train_pipeline = [*kept[:position], bbox_transform, *kept[position:]]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
del bbox_transform, kept, position
