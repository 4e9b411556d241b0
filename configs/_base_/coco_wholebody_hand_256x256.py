# The hands of COCO-WholeBody: 21 keypoints, annotated boxes.
_base_ = ['hands_256x256.py']

dataset_type = 'CocoWholeBodyHandDataset'
data = dict(
    layout='coco_wholebody_hand',
    metainfo=dict(from_file='configs/_base_/datasets/coco_wholebody_hand.py'),
)
train_dataloader = dict(dataset=dict(data, ann_file='annotations/coco_wholebody_train_v1.0.json'))
val_dataloader = dict(dataset=dict(data, ann_file='annotations/coco_wholebody_val_v1.0.json'))
test_dataloader = val_dataloader
del data
