# TokenPose's own schedule: Adam without weight decay, 300 epochs, learning rate / 10 at epochs 200
# and 260, float32.
train_cfg = dict(by_epoch=True, max_epochs=300, val_interval=10)
val_cfg = dict()
test_cfg = dict()

optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-3))
param_scheduler = [
    dict(type='MultiStepLR', begin=0, end=300, milestones=[200, 260], gamma=0.1, by_epoch=True)
]
# The learning rate is for 4 GPUs x 32 images; TokenPose-L: 4 x 16.
auto_scale_lr = dict(enable=False, base_batch_size=128)
