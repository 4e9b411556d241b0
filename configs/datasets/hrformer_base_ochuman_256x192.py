_base_ = [
    '../_base_/schedule_coco_210e.py',
    '../_base_/hrformer_base.py',
    '../_base_/ochuman_256x192.py',
]
model = dict(head=dict(decoder=_base_.codec))
