# DARK: sub-pixel targets and decoding (docs/codecs.md).
_base_ = ['coco_256x192.py']

codec = dict(_base_.codec, unbiased=True, blur_kernel_size=11)
changed = {'GenerateTarget': dict(encoder=codec)}
train_pipeline = [dict(step, **changed.get(step['type'], {})) for step in _base_.train_pipeline]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
del changed
