# AI Challenger: 14 keypoints, annotated boxes.
_base_ = ['default_runtime.py', 'coco_256x192.py']

dataset_type = 'AicDataset'
# Folder with annotations/ and two folders of images.
data_root = '{{$AIC_ROOT:data/aic}}'
detections = None
data = dict(data_root=data_root, metainfo=dict(from_file='configs/_base_/datasets/aic.py'))
train_dataloader = dict(
    dataset=dict(
        data,
        ann_file='annotations/aic_train.json',
        data_prefix=dict(
            img='ai_challenger_keypoint_train_20170902/keypoint_train_images_20170902/'
        ),
    )
)
val_dataloader = dict(
    dataset=dict(
        data,
        ann_file='annotations/aic_val.json',
        bbox_file=detections,
        data_prefix=dict(
            img='ai_challenger_keypoint_validation_20170911/keypoint_validation_images_20170911/'
        ),
    )
)
test_dataloader = val_dataloader
del data

# The annotations have no areas.
val_evaluator = dict(ann_file=f'{data_root}/annotations/aic_val.json', use_area=False)
test_evaluator = val_evaluator
