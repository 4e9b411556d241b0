# HRNet-W32 with the recipe of HRNet's authors (paper, table 3).
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/schedule_hrnet_210e.py',
    '../_base_/hrnet_w32.py',
    '../_base_/coco_256x192_hrnet.py',
]
model = dict(backbone=dict(norm_cfg=dict(type='BN')), head=dict(decoder=_base_.codec))
