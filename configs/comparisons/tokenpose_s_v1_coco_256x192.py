# TokenPose-S-v1: HRNet up to stage 1 from random weights, then 12 layers of keypoint tokens. Data,
# schedule and codec: see tokenpose_b_coco_256x192.py.
_base_ = ['tokenpose_b_coco_256x192.py']
pretrained = None
model = dict(
    backbone=dict(
        num_stages=1, init_cfg=dict(_delete_=True, type='Normal', std=0.001, layer='Conv2d')
    ),
    head=dict(in_channels=256, scale_by_head=False),
)
