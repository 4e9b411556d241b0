# TokenPose-L/D6: three stages of 2 layers instead of 8.
_base_ = ['tokenpose_l_d24_coco_256x192.py']
model = dict(head=dict(depths=(2, 2, 2), num_heads=8))
