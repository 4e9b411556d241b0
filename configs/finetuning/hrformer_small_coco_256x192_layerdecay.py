# Fine-tuning with learning rates that fall from the head (lr) to the stem (lr 0.8^17).
_base_ = ['../hrformer_small_coco_256x192.py']
optim_wrapper = dict(
    constructor='hrformer_mmpose.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(num_layers=16, layer_decay_rate=0.8),
)
