_base_ = [
    '../_base_/schedule_coco_210e.py',
    '../_base_/hrformer_small.py',
    '../_base_/halpe26_256x192.py',
]
model = dict(head=dict(out_channels=26, decoder=_base_.codec))
