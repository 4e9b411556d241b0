# TokenPose-L/D24 at 384x288 (paper, table 4). Data, schedule and codec: see
# tokenpose_b_coco_256x192.py.
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/schedule_tokenpose_300e.py',
    '../_base_/coco_384x288_dark.py',
    '../_base_/tokenpose_l_d24.py',
]
size = (96, 72)
model = dict(head=dict(map_size=size, patch_size=(6, 4), heatmap_size=size, decoder=_base_.codec))
auto_scale_lr = dict(base_batch_size=256)  # 8 GPUs x 32 images
