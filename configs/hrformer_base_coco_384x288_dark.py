# DARK: targets lie between pixels, and decoding finds them there (docs/codecs.md).
_base_ = 'hrformer_base_coco_384x288.py'

codec = dict(**_base_.codec, unbiased=True, blur_kernel_size=17)
model = dict(head=dict(decoder=codec))
train_pipeline = _base_.train_pipeline
train_pipeline[-2].update(encoder=codec)  # GenerateTarget
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
