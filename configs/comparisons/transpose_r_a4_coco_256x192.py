# TransPose-R-A4 (Yang et al., ICCV 2021): ResNet-50 up to layer 2, then 4 layers of a transformer
# encoder on its pixels and a deconvolution. Data and evaluation are HRFormer's; schedule, targets
# and decoding (DARK) and the start from torchvision's ImageNet weights are the authors'.
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/schedule_transpose.py',
    '../_base_/coco_256x192_dark.py',
    '../_base_/hrformer.py',
]
pretrained = dict(
    type='Pretrained', checkpoint='https://download.pytorch.org/models/resnet50-19c8e357.pth'
)
model = dict(
    backbone=dict(
        _delete_=True,
        type='hrformer_mmpose.ResNet',
        depth=50,
        num_stages=2,
        strides=(1, 2),
        dilations=(1, 1),
        out_indices=(1,),
        norm_cfg=dict(type='SyncBN'),
        init_cfg=pretrained,
    ),
    head=dict(
        type='hrformer_mmpose.TransPoseHead',
        in_channels=512,
        map_size=(32, 24),
        channels=256,
        depth=4,
        num_heads=8,
        feedforward_channels=1024,
        deconv_out_channels=(256,),
        deconv_kernel_sizes=(4,),
        # The other layers start as PyTorch's.
        init_cfg=dict(type='Normal', std=0.001, override=dict(name='final_layer')),
        decoder=_base_.codec,
    ),
)
train_cfg = dict(max_epochs=230)
param_scheduler = [dict(_base_.param_scheduler[0], end=230, T_max=230)]
# The learning rate is for one GPU with 20 images.
train_dataloader = dict(batch_size=20)
auto_scale_lr = dict(enable=False, base_batch_size=20)
