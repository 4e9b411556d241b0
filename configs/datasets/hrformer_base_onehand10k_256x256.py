_base_ = [
    '../_base_/schedule_coco_210e.py',
    '../_base_/hrformer_base.py',
    '../_base_/onehand10k_256x256.py',
]
model = dict(head=dict(out_channels=21, decoder=_base_.codec))
