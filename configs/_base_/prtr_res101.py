# PRTR with ResNet-101.
_base_ = ['prtr.py']
pretrained = dict(checkpoint='https://download.pytorch.org/models/resnet101-63fe2227.pth')
model = dict(backbone=dict(depth=101, init_cfg=pretrained))
