# MPII: 16 keypoints, annotated centres and sizes; neither shifted boxes nor half bodies, PCKh.
_base_ = ['default_runtime.py', 'coco_256x256.py']

dataset_type = 'MpiiDataset'
# Folder with annotations/ and images/.
data_root = '{{$MPII_ROOT:data/mpii}}'
detections = None
train_pipeline = [
    step
    for step in _base_.train_pipeline
    if step['type'] != 'RandomHalfBody' and step.get('scale_prob') != 0
]
data = dict(
    type='hrformer_mmpose.MpiiDataset', data_root=data_root, data_prefix=dict(img='images/')
)
train_dataloader = dict(
    dataset=dict(data, ann_file='annotations/mpii_train.json', pipeline=train_pipeline)
)
val_dataloader = dict(
    dataset=dict(
        data,
        ann_file='annotations/mpii_val.json',
        bbox_file=detections,
        headbox_file='annotations/mpii_gt_val.mat',
    )
)
test_dataloader = val_dataloader
del data

val_evaluator = dict(_delete_=True, type='hrformer_mmpose.MpiiPCKAccuracy')
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(save_best='PCK'))
