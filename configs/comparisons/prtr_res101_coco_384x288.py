# PRTR, two-stage, with ResNet-101.
_base_ = ['../_base_/prtr_res101.py', '../_base_/coco_384x288_prtr.py']
model = dict(head=dict(decoder=_base_.codec))
