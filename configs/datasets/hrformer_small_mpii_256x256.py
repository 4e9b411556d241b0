_base_ = [
    '../_base_/schedule_coco_210e.py',
    '../_base_/hrformer_small.py',
    '../_base_/mpii_256x256.py',
]
model = dict(head=dict(out_channels=16, decoder=_base_.codec))
