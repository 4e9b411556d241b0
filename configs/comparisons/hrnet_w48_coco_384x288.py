# HRNet-W48, MMPose's class (paper, table 3).
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/schedule_coco_210e.py',
    '../_base_/hrnet_w48.py',
    '../_base_/coco_384x288.py',
]
model = dict(head=dict(decoder=_base_.codec))
