# Settings of the authors for HRFormer-B at 384x288 (8 GPUs x 8 images); those of MMPose differ.
_base_ = ['default_runtime.py', 'schedule_coco_210e.py', 'hrformer_base.py']
model = dict(backbone=dict(drop_path_rate=0.3))
auto_scale_lr = dict(base_batch_size=64)
