"""Child registries of MMPose's, for `type='hrformer_mmpose.HRFormer'` in a config.

Class names equal MMPose's where the purpose is the same; the prefix distinguishes them. The first
lookup imports the modules in `locations`.
"""

from mmengine import registry as mmengine_registry
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.registry import Registry
from mmpose import registry as mmpose_registry


def _child(parent: Registry, *locations: str) -> Registry:
    scope = 'hrformer_mmpose'
    modules = [f'{scope}.{location}' for location in locations]
    return Registry(parent.name, parent=parent, scope=scope, locations=modules)


MODELS = _child(
    mmpose_registry.MODELS, 'models', 'backbones.swin', 'backbones.trunks', 'backbones.vit'
)
DATASETS = _child(
    mmpose_registry.DATASETS,
    'datasets.coco',
    'datasets.mpii',
    'datasets.image_folder',
    'datasets.mask_folder',
)
TRANSFORMS = _child(
    mmpose_registry.TRANSFORMS,
    'datasets.transforms',
    'datasets.image_transforms',
    'datasets.mask_transforms',
    'datasets.mask_folder',
)
OPTIM_WRAPPERS = _child(mmpose_registry.OPTIM_WRAPPERS, 'engine.optim_wrapper')
OPTIM_WRAPPER_CONSTRUCTORS = _child(
    mmpose_registry.OPTIM_WRAPPER_CONSTRUCTORS, 'engine.layer_decay'
)
DATA_SAMPLERS = _child(mmpose_registry.DATA_SAMPLERS, 'datasets.sampler')
KEYPOINT_CODECS = _child(mmpose_registry.KEYPOINT_CODECS, 'codecs')
METRICS = _child(
    mmpose_registry.METRICS,
    'evaluation.coco_metric',
    'evaluation.coco_wholebody_metric',
    'evaluation.mpii',
    'evaluation.pck',
    'evaluation.accuracy',
    'evaluation.iou',
)
HOOKS = _child(mmpose_registry.HOOKS, 'engine.checkpoint_hook', 'engine.hooks')
LOOPS = _child(mmpose_registry.LOOPS, 'engine.loops')
FUNCTIONS = _child(mmengine_registry.FUNCTIONS, 'datasets.collate')
# MMPose's tools build the runner from MMEngine's registry.
RUNNERS = _child(mmengine_registry.RUNNERS, 'engine.runner')

# MMEngine looks up models by name only in packages of this table, as the inferencers do with
# scope='hrformer_mmpose': their metafiles give config and weights.
MODULE2PACKAGE.setdefault('hrformer_mmpose', 'hrformer-mmpose')
