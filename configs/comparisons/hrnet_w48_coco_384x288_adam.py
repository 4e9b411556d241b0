# HRNet-W48 with the recipe of HRNet's authors (paper, table 3).
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/schedule_hrnet_210e.py',
    '../_base_/hrnet_w48.py',
    '../_base_/coco_384x288_hrnet.py',
]
model = dict(backbone=dict(norm_cfg=dict(type='BN')), head=dict(decoder=_base_.codec))
train_dataloader = dict(batch_size=24)
auto_scale_lr = dict(base_batch_size=96)  # 4 GPUs x 24 images
