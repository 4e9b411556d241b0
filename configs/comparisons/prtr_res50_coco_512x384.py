# PRTR, two-stage, with ResNet-50.
_base_ = ['../_base_/prtr.py', '../_base_/coco_512x384_prtr.py']
model = dict(head=dict(decoder=_base_.codec))
