# Ablation: the authors' FFN without depth-wise convolution and BatchNorm (paper, table 7).
_base_ = ['../hrformer_tiny_coco_256x192.py']
model = dict(backbone=dict(with_dwconv=False, plain_mlp=True))
