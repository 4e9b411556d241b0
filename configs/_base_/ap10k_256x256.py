# AP-10K: 17 keypoints of 54 animals, annotated boxes; the figures are means over the animals.
_base_ = ['default_runtime.py', 'coco_256x256.py']

dataset_type = 'AP10KDataset'
# Folder with annotations/ and data/.
data_root = '{{$AP10K_ROOT:data/ap10k}}'
detections = None
data = dict(
    data_root=data_root,
    data_prefix=dict(img='data/'),
    metainfo=dict(from_file='configs/_base_/datasets/ap10k.py'),
)
train_dataloader = dict(dataset=dict(data, ann_file='annotations/ap10k-train-split1.json'))
data['bbox_file'] = detections
val_dataloader = dict(dataset=dict(data, ann_file='annotations/ap10k-val-split1.json'))
test_dataloader = dict(dataset=dict(data, ann_file='annotations/ap10k-test-split1.json'))
del data

val_evaluator = dict(ann_file=f'{data_root}/annotations/ap10k-val-split1.json')
test_evaluator = dict(ann_file=f'{data_root}/annotations/ap10k-test-split1.json')
