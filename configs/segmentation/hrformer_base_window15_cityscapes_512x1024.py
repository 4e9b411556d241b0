# Windows of 15x15, the paper's HRFormer-B for segmentation.
_base_ = ['hrformer_base_cityscapes_512x1024.py']
model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True,
            channels=(78, 156, 312, 624),
            num_heads=(2, 4, 8, 16),
            num_modules=(1, 1, 4, 2),
            window_sizes=15,
        ),
        resize_rpe=True,  # the ImageNet weights have windows of 7x7
    )
)
