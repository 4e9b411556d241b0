# OCHuman: persons that occlude each other, with COCO's 17 keypoints and annotated boxes. It is for
# validation and test; training is on COCO.
_base_ = ['default_runtime.py', 'coco_256x192.py']

# Folder with annotations/ and images/.
ochuman_root = '{{$OCHUMAN_ROOT:data/ochuman}}'
detections = None
annotations = 'annotations/ochuman_coco_format_{}_range_0.00_1.00.json'
data = dict(
    data_root=ochuman_root,
    data_prefix=dict(img='images/'),
    bbox_file=detections,
    metainfo=dict(from_file='configs/_base_/datasets/ochuman.py'),
)
val_dataloader = dict(dataset=dict(data, ann_file=annotations.format('val')))
test_dataloader = dict(dataset=dict(data, ann_file=annotations.format('test')))
val_evaluator = dict(ann_file=f'{ochuman_root}/{annotations.format("val")}')
test_evaluator = dict(ann_file=f'{ochuman_root}/{annotations.format("test")}')
del annotations, data
