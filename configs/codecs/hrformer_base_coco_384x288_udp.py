_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/schedule_coco_210e.py',
    '../_base_/hrformer_base.py',
    '../_base_/coco_384x288_udp.py',
]
# The authors' settings (8 GPUs x 8 images, drop path 0.3); MMPose's config differs.
model = dict(backbone=dict(drop_path_rate=0.3), head=dict(decoder=_base_.codec))
train_dataloader = dict(batch_size=8)
auto_scale_lr = dict(base_batch_size=64)
