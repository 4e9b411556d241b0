# PRTR, two-stage, with HRNet-W32.
_base_ = ['../_base_/prtr_hrnet_w32.py', '../_base_/coco_512x384_prtr.py']
model = dict(head=dict(decoder=_base_.codec))
train_dataloader = dict(batch_size=16)
