# TransPose-R-A3: 3 layers instead of 4.
_base_ = ['transpose_r_a4_coco_256x192.py']
model = dict(head=dict(depth=3))
# The learning rate is for one GPU with 28 images.
train_dataloader = dict(batch_size=28)
auto_scale_lr = dict(base_batch_size=28)
