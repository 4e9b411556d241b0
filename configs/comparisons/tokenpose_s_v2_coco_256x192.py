# TokenPose-S-v2: TokenPose-S-v1 with patches of 2x2 pixels of the map.
_base_ = ['tokenpose_s_v1_coco_256x192.py']
model = dict(head=dict(patch_size=(2, 2)))
train_dataloader = dict(batch_size=12)
auto_scale_lr = dict(base_batch_size=48)
