# OneHand10K: 21 keypoints of a hand, annotated boxes.
_base_ = ['hands_256x256.py']

dataset_type = 'OneHand10KDataset'
# Folder with annotations/, Train/ and Test/.
data_root = '{{$ONEHAND10K_ROOT:data/onehand10k}}'
data = dict(
    data_root=data_root,
    data_prefix=dict(img=''),
    metainfo=dict(from_file='configs/_base_/datasets/onehand10k.py'),
)
train_dataloader = dict(dataset=dict(data, ann_file='annotations/onehand10k_train.json'))
val_dataloader = dict(dataset=dict(data, ann_file='annotations/onehand10k_test.json'))
test_dataloader = val_dataloader
del data
