# CrowdPose: 14 keypoints; training on train and val, validation on test with detected boxes.
_base_ = ['default_runtime.py', 'coco_256x192.py']

dataset_type = 'CrowdPoseDataset'
# Folder with annotations/ and images/.
data_root = '{{$CROWDPOSE_ROOT:data/crowdpose}}'
detections = '{{$CROWDPOSE_DETECTIONS:annotations/det_for_crowd_test_0.1_0.5.json}}'
data = dict(
    data_root=data_root,
    data_prefix=dict(img='images/'),
    metainfo=dict(from_file='configs/_base_/datasets/crowdpose.py'),
)
train_dataloader = dict(dataset=dict(data, ann_file='annotations/mmpose_crowdpose_trainval.json'))
val_dataloader = dict(
    dataset=dict(data, ann_file='annotations/mmpose_crowdpose_test.json', bbox_file=detections)
)
test_dataloader = val_dataloader
del data

# The annotations have no areas.
val_evaluator = dict(
    ann_file=f'{data_root}/annotations/mmpose_crowdpose_test.json',
    use_area=False,
    iou_type='keypoints_crowd',
    prefix='crowdpose',
)
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(save_best='crowdpose/AP'))
