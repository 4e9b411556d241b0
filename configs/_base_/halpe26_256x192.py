# Halpe: the 26 keypoints of body, head and feet of its 136; annotated boxes.
_base_ = ['default_runtime.py', 'coco_256x192.py']

dataset_type = 'HalpeDataset'
# Folder with annotations/, hico_20160224_det/ (training) and val2017/ (COCO's).
data_root = '{{$HALPE_ROOT:data/halpe}}'
detections = None
data = dict(
    data_root=data_root,
    layout='halpe26',
    metainfo=dict(from_file='configs/_base_/datasets/halpe26.py'),
)
train_dataloader = dict(
    dataset=dict(
        data,
        ann_file='annotations/halpe_train_v1.json',
        data_prefix=dict(img='hico_20160224_det/images/train2015/'),
    )
)
val_dataloader = dict(
    dataset=dict(data, ann_file='annotations/halpe_val_v1.json', bbox_file=detections)
)
test_dataloader = val_dataloader
del data

val_evaluator = dict(ann_file=f'{data_root}/annotations/halpe_val_v1.json', layout='halpe26')
test_evaluator = val_evaluator
