# HRNet-W32, MMPose's class (paper, table 3), with UDP.
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/schedule_coco_210e.py',
    '../_base_/hrnet_w32.py',
    '../_base_/coco_256x192_udp.py',
]
model = dict(head=dict(decoder=_base_.codec))
