_base_ = [
    '_base_/default_runtime.py',
    '_base_/schedule_coco_210e.py',
    '_base_/hrformer.py',
    '_base_/coco_384x288.py',
]
# From scratch: no ImageNet weights of HRFormer-T are published in MMPose's format. Its drop path is
# HRFormer-S's; the authors name none.
model = dict(
    backbone=dict(arch='tiny', drop_path_rate=0.1),
    head=dict(in_channels=18, decoder=_base_.codec),
)
