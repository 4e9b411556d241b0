# PRTR, two-stage, with ResNet-101.
_base_ = ['../_base_/prtr_res101.py', '../_base_/coco_512x384_prtr.py']
model = dict(head=dict(decoder=_base_.codec))
