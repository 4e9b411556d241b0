# Fine-tuning with the stem and stages 1 and 2 as they are: for few images, and less memory.
_base_ = ['../hrformer_small_coco_256x192.py']
model = dict(backbone=dict(frozen_stages=2))
