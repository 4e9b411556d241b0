"""The config of a new data set: a few lines on a published one.

`_base_` is looked up by name when the config is read, because a relative path would depend on the
folder and an absolute one on the machine. MMEngine evaluates the expression, so that MMPose's own
tools read the config, too. Only the folder of the images is absolute.
"""

from dataclasses import dataclass

from .schedule import Schedule

# Endings of the configs' names. UDP is the default: encoding and decoding alone, without a network,
# leave 299 persons of COCO with five keypoints an AP of 0.984 at 256x192 and of 0.981 at 128x96;
# with MSRA these are 0.961 and 0.843.
CODECS = dict(udp='_udp', dark='_dark', msra='')
PUBLISHED_SIZES = {(192, 256): '256x192', (288, 384): '384x288'}


@dataclass(frozen=True)
class Settings:
    """Choices of a config.

    Attributes:
        name: of the data set; names the work folder.
        model: 'tiny', 'small' or 'base'.
        num_keypoints: K.
        codec: one of `CODECS`.
        input_size: width and height in pixels.
        schedule: length of training.
        images: absolute folder of the training images.
        val_images: likewise for validation.
        weights: file to start from, None for the base config's, 'none' for random ones.
        augmentation: augment training samples.
    """

    name: str
    model: str
    num_keypoints: int
    codec: str
    input_size: tuple[int, int]
    schedule: Schedule
    images: str
    val_images: str
    weights: str | None = None
    augmentation: bool = True


def text(settings: Settings, about: str) -> str:
    """Return the config's text; `about` is the comment at its top."""
    size = PUBLISHED_SIZES.get(settings.input_size)
    base = f'hrformer_{settings.model}_coco_{size or "256x192"}{CODECS[settings.codec]}'
    data = dict(data_root='here', metainfo="dict(from_file=f'{here}/metainfo.py')")
    same = settings.images == settings.val_images
    if same:
        data['data_prefix'] = f'dict(img={settings.images!r})'
    lines = [
        f'# {about}',
        f"_base_ = __import__('hrformer_mmpose.zoo').zoo.find('{base}')",
        "here = '{{fileDirname}}'",  # MMEngine puts the config's folder here
        f'data = dict({_args(data)})',
        *_pipelines(settings, resized=size is None),
        _model(settings, resized=size is None),
        *(_loader(settings, use, same, resized=size is None) for use in ('train', 'val')),
        'test_dataloader = val_dataloader',
        "val_evaluator = test_evaluator = dict(ann_file=f'{here}/val.json')",
        *_training(settings.schedule),
        f"work_dir = 'work_dirs/{settings.name}'",
    ]
    if settings.weights not in (None, 'none'):
        lines.append(f'load_from = {settings.weights!r}')
    return '\n'.join(lines) + '\n'


def _args(values: dict[str, str]) -> str:
    return ', '.join(f'{key}={value}' for key, value in values.items())


def _pipelines(settings: Settings, resized: bool) -> list[str]:
    """Return the lines that change the base's steps: size of the input, no augmentation."""
    lines, steps = [], '_base_.train_pipeline'
    if resized:
        width, height = settings.input_size
        lines = [
            f'codec = dict(_base_.codec, input_size=({width}, {height}), '
            f'heatmap_size=({width // 4}, {height // 4}))',
            f"sizes = {{'hrformer_mmpose.TopdownAffine': dict(input_size=({width}, {height})), "
            "'GenerateTarget': dict(encoder=codec)}",
            f"train_pipeline = [dict(step, **sizes.get(step['type'], {{}})) for step in {steps}]",
            "val_pipeline = [dict(step, **sizes.get(step['type'], {})) "
            'for step in _base_.val_pipeline]',
            'del sizes',
        ]
        steps = 'train_pipeline'
    if not settings.augmentation:
        lines.append(f"train_pipeline = [s for s in {steps} if 'Random' not in s['type']]")
    return lines


def _model(settings: Settings, resized: bool) -> str:
    head = f'head=dict(out_channels={settings.num_keypoints}{", decoder=codec" * resized})'
    # A network that has never seen a mirrored image fails on it.
    test_cfg = '' if settings.augmentation else ', test_cfg=dict(flip_test=False)'
    backbone = {} if settings.augmentation else dict(drop_path_rate='0.0')
    if settings.weights is not None:
        backbone['init_cfg'] = 'None'  # load_from has all weights
    backbone = f', backbone=dict({_args(backbone)})' * bool(backbone)
    return f'model = dict({head}{backbone}{test_cfg})'


def _loader(settings: Settings, use: str, same: bool, resized: bool) -> str:
    data = dict(ann_file=f"'{use}.json'")
    if not same:
        images = settings.images if use == 'train' else settings.val_images
        data['data_prefix'] = f'dict(img={images!r})'
    if use == 'val':
        data['bbox_file'] = 'None'
    if resized or (use == 'train' and not settings.augmentation):
        data['pipeline'] = f'{use}_pipeline'
    batch_size = settings.schedule.batch_size
    return f'{use}_dataloader = dict(batch_size={batch_size}, dataset=dict(data, {_args(data)}))'


def _training(schedule: Schedule) -> list[str]:
    return [
        f'train_cfg = dict(max_epochs={schedule.epochs}, val_interval={schedule.val_interval})',
        'warmup, decay = _base_.param_scheduler',
        f'param_scheduler = [dict(warmup, end={schedule.warmup}), '
        f'dict(decay, end={schedule.epochs}, milestones={list(schedule.milestones)})]',
        f'optim_wrapper = dict(optimizer=dict(lr={schedule.rate:g}))',
        f'auto_scale_lr = dict(base_batch_size={schedule.batch_size})',
    ]
