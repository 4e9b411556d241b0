_base_ = [
    '../_base_/schedule_coco_210e.py',
    '../_base_/hrformer_small.py',
    '../_base_/ap10k_256x256.py',
]
model = dict(head=dict(decoder=_base_.codec))
