# COCO-WholeBody: 133 keypoints of body, feet, face and hands on COCO's images, with its boxes.
_base_ = ['default_runtime.py', 'coco_256x192.py']

dataset_type = 'CocoWholeBodyDataset'
data = dict(
    layout='coco_wholebody', metainfo=dict(from_file='configs/_base_/datasets/coco_wholebody.py')
)
train_dataloader = dict(dataset=dict(data, ann_file='annotations/coco_wholebody_train_v1.0.json'))
val_dataloader = dict(dataset=dict(data, ann_file='annotations/coco_wholebody_val_v1.0.json'))
test_dataloader = val_dataloader
del data

val_evaluator = dict(
    type='hrformer_mmpose.CocoWholeBodyMetric',
    ann_file=f'{_base_.data_root}/annotations/coco_wholebody_val_v1.0.json',
)
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(save_best='coco-wholebody/AP'))
