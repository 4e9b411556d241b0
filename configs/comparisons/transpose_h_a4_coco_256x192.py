# TransPose-H-A4: 4 layers instead of 6.
_base_ = ['transpose_h_a6_coco_256x192.py']
model = dict(head=dict(depth=4))
