_base_ = [
    '../_base_/schedule_coco_210e.py',
    '../_base_/hrformer_base.py',
    '../_base_/coco_wholebody_256x192.py',
]
model = dict(head=dict(out_channels=133, decoder=_base_.codec))
