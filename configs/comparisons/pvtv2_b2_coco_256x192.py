# PVTv2-B2, MMPose's class, with SimpleBaseline's head.
_base_ = ['pvt_small_coco_256x192.py']
model = dict(backbone=dict(type='PyramidVisionTransformerV2', embed_dims=64))
