# PRTR, two-stage, with ResNet-50.
_base_ = ['../_base_/prtr.py', '../_base_/coco_384x288_prtr.py']
model = dict(head=dict(decoder=_base_.codec))
