_base_ = ['_base_/hrformer_base_384x288.py', '_base_/coco_384x288.py']
model = dict(head=dict(decoder=_base_.codec))
train_dataloader = dict(batch_size=8)
