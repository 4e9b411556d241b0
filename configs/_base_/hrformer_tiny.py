# HRFormer-T, initialised at random: MMPose publishes no ImageNet weights for it. The authors state
# no drop path rate; this is HRFormer-S's.
_base_ = ['hrformer.py']
model = dict(backbone=dict(arch='tiny', drop_path_rate=0.1), head=dict(in_channels=18))
