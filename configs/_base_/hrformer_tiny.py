# HRFormer-T, from random weights: no ImageNet weights of it are published under MMPose's names. The
# authors state no drop path; HRFormer-S's is taken.
_base_ = ['hrformer.py']
model = dict(backbone=dict(arch='tiny', drop_path_rate=0.1), head=dict(in_channels=18))
