# HRFormer with the OCR head (paper, section 4.2): network, optimizer and learning rate of
# https://github.com/HRNet/HRFormer, seg/scripts/*/hrt/run_hrt_*_ocr_v2*.sh.
_base_ = ['default_runtime.py']
model = dict(
    type='hrformer_mmpose.Segmentor',
    # The authors' code reads images as BGR and normalizes blue with the mean of red, and so on
    # ("input_mode": "BGR" in seg/configs). Their files need the same.
    data_preprocessor=dict(
        type='ImgDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=False,
    ),
    backbone=dict(
        type='hrformer_mmpose.HRFormer',
        multiscale_output=True,
        align_corners=True,  # as the authors' segmentation networks
        norm_cfg=dict(type='SyncBN'),
    ),
    head=dict(type='hrformer_mmpose.OCRHead', norm_cfg=dict(type='SyncBN')),
    test_cfg=dict(scales=(1.0,), flip=False),
)
optim_wrapper = dict(
    type='hrformer_mmpose.AutoAmpOptimWrapper',
    loss_scale='dynamic',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={'relative_position_bias_table': dict(decay_mult=0.0)},
    ),
)
val_cfg = dict()
test_cfg = dict()
val_evaluator = dict(type='hrformer_mmpose.IoU')
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(save_best='seg/mIoU'))
