# TransPose's own schedule: Adam without weight decay, cosine from 1e-4 to 1e-5, float32; 240 epochs
# with HRNet (230 with ResNet).
train_cfg = dict(by_epoch=True, max_epochs=240, val_interval=10)
val_cfg = dict()
test_cfg = dict()

optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-4))
param_scheduler = [
    dict(type='CosineAnnealingLR', begin=0, end=240, T_max=240, eta_min=1e-5, by_epoch=True)
]
