# TokenPose-B. Data and evaluation are HRFormer's; schedule, targets and decoding (DARK) and the
# start from HRNet's ImageNet weights are the authors'.
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/schedule_tokenpose_300e.py',
    '../_base_/coco_256x192_dark.py',
    '../_base_/tokenpose_b.py',
]
model = dict(head=dict(decoder=_base_.codec))
