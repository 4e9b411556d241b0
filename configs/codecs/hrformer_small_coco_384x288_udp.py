_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/schedule_coco_210e.py',
    '../_base_/hrformer_small.py',
    '../_base_/coco_384x288_udp.py',
]
model = dict(head=dict(decoder=_base_.codec))
