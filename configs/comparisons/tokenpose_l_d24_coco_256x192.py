# TokenPose-L/D24 (paper, table 3). Data, schedule and codec: see tokenpose_b_coco_256x192.py.
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/schedule_tokenpose_300e.py',
    '../_base_/coco_256x192_dark.py',
    '../_base_/tokenpose_l_d24.py',
]
model = dict(head=dict(decoder=_base_.codec))
train_dataloader = dict(batch_size=16)
auto_scale_lr = dict(base_batch_size=64)
