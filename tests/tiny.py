"""A network of a moment, with everything that has a state in training."""

from tests.conftest import ROOT

# Drop path, augmentation, moving averages of the weights; 449 weights in less than 1 MB.
NETWORK = f"""
_base_ = ['{ROOT}/configs/quickstart/hrformer_tiny_demo_112x84.py']
model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True,
            channels=(4, 8, 8, 8),
            num_heads=(1, 2, 2, 2),
            num_modules=1,
            num_blocks=1,
        ),
        drop_path_rate=0.3,
    ),
    head=dict(in_channels=4, deconv_out_channels=(4,)),
)
custom_hooks = [dict(type='SyncBuffersHook'), dict(type='EMAHook', momentum=0.1)]
"""
