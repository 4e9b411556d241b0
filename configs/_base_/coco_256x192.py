# COCO keypoints at 256x192 (height x width), heatmaps at a quarter of it.
codec = dict(
    type='hrformer_mmpose.MSRAHeatmap', input_size=(192, 256), heatmap_size=(48, 64), sigma=2
)

train_pipeline = [
    dict(type='hrformer_mmpose.LoadImage'),
    dict(type='GetBBoxCenterScale'),
    dict(type='RandomFlip', direction='horizontal'),
    # The authors' augmentation, not MMPose 1.x's (docs/data.md, "Recipes"). The shift precedes
    # RandomHalfBody, because half-body boxes are not shifted.
    dict(
        type='hrformer_mmpose.RandomBBoxTransform',
        distribution='clipped',
        scale_prob=0.0,
        rotate_prob=0.0,
    ),
    dict(type='RandomHalfBody', min_upper_keypoints=3, upper_prioritized_prob=0.6915),
    dict(type='hrformer_mmpose.RandomBBoxTransform', distribution='clipped', shift_prob=0.0),
    dict(type='hrformer_mmpose.TopdownAffine', input_size=codec['input_size']),
    dict(type='GenerateTarget', encoder=codec),
    dict(type='PackPoseInputs'),
]
val_pipeline = [
    dict(type='hrformer_mmpose.LoadImage'),
    dict(type='GetBBoxCenterScale'),
    dict(type='hrformer_mmpose.TopdownAffine', input_size=codec['input_size']),
    dict(type='PackPoseInputs'),
]

# For MMPose's inferencer: the kind of model, and the data set whose default detector it loads.
data_mode = 'topdown'
dataset_type = 'CocoDataset'

# Folder with annotations/, train2017/, val2017/ and person_detection_results/.
data_root = '{{$COCO_ROOT:data/coco}}'
# Person detections for validation and test: an absolute path, or relative to the data root.
detections = (
    '{{$COCO_DETECTIONS:person_detection_results/COCO_val2017_detections_AP_H_56_person.json}}'
)

train_dataloader = dict(
    batch_size=32,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='hrformer_mmpose.DefaultSampler', shuffle=True),
    dataset=dict(
        type='hrformer_mmpose.CocoDataset',
        data_root=data_root,
        data_mode=data_mode,
        ann_file='annotations/person_keypoints_train2017.json',
        data_prefix=dict(img='train2017/'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='hrformer_mmpose.DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type='hrformer_mmpose.CocoDataset',
        data_root=data_root,
        data_mode=data_mode,
        ann_file='annotations/person_keypoints_val2017.json',
        bbox_file=detections,
        data_prefix=dict(img='val2017/'),
        test_mode=True,
        pipeline=val_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(
    type='hrformer_mmpose.CocoMetric',
    ann_file=f'{data_root}/annotations/person_keypoints_val2017.json',
)
test_evaluator = val_evaluator
