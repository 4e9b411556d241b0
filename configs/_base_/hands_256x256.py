# Hands: any rotation, sizes closer to the box's, no half bodies; PCK, AUC and end-point error.
_base_ = ['default_runtime.py', 'coco_256x256.py']

changed = dict(
    type='hrformer_mmpose.RandomBBoxTransform',
    distribution='clipped',
    rotate_factor=180,
    scale_factor=(0.7, 1.3),
)
train_pipeline = [step for step in _base_.train_pipeline if 'Random' not in step['type']]
train_pipeline[2:2] = [dict(type='RandomFlip', direction='horizontal'), changed]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(bbox_file=None))
test_dataloader = val_dataloader
del changed

detections = None
val_evaluator = [dict(type='PCKAccuracy', thr=0.2), dict(type='AUC'), dict(type='EPE')]
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(save_best='AUC'))
