# Top-down heatmap regression with another backbone; data, schedule and evaluation of HRFormer.
_base_ = ['default_runtime.py', 'schedule_coco_210e.py', 'coco_256x192.py', 'hrformer.py']
