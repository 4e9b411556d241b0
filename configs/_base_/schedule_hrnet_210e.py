# HRNet's own recipe: Adam, no weight decay, no warm-up, rate / 10 at epochs 170 and 200.
_base_ = ['schedule_coco_210e.py']

optim_wrapper = dict(_delete_=True, type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-3))
param_scheduler = [
    dict(type='MultiStepLR', begin=0, end=210, milestones=[170, 200], gamma=0.1, by_epoch=True)
]
# The learning rate is for 4 GPUs x 32 images; --auto-scale-lr scales it to the actual batch size.
auto_scale_lr = dict(base_batch_size=128)
