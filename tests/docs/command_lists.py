"""What the tests do with each command of the pages, and why.

`RUN`: runs in `test_running.py`, in a folder with small stand-ins for the user's files (`user.py`).
`ONLINE`: runs there, too, with the packages that the page installs from a registry.
`PARSED`: cannot run here, and is parsed only.
"""

DEMO = (
    '--model hrformer_tiny_demo_112x84 --checkpoint work_dirs/demo/best_coco_AP_epoch_*.pth '
    '--boxes data/demo/person_detection_results/simulated_val2017_person.json'
)
PEOPLE = (
    'hrformer new-dataset data/people/annotations/person_keypoints_train2017.json '
    '--images data/people/train2017 --keypoints '
)
BASE = 'configs/hrformer_base_coco_256x192.py'
IMAGENET = 'configs/imagenet/hrformer_small_imagenet_224.py'
CITYSCAPES = 'configs/segmentation/hrformer_small_cityscapes_512x1024.py'
PUBLISHED = '--model hrformer_base_coco_256x192 --checkpoint mmpose://hrformer_base_coco_256x192'

# Replaced in all commands: HRFormer-T in place of S and B, and the folders of data sets.
SMALLER = {
    'hrformer_base_coco_256x192': 'hrformer_tiny_coco_256x192',
    'hrformer_small_coco_256x192': 'hrformer_tiny_coco_256x192',
    '=/data/': '=sets/',
}
# Not in these: their names are those of published files.
AS_THEY_ARE = ('mmpose://',)

EPOCH = 'train_cfg.max_epochs=1 train_cfg.val_interval=1'
SMALL_EPOCH = f'--cfg-options {EPOCH} train_dataloader.batch_size=4 train_dataloader.num_workers=1'
MASKS = (
    f'--cfg-options {EPOCH} model.backbone.init_cfg=None train_dataloader.num_workers=1 '
    'train_dataloader.dataset.pipeline.2.size="(64,128)"'
)
WEIGHTS = ('CHECKPOINT', 'checkpoint.pth')
SEGMENTATION = ('CONFIG FILE', f'{CITYSCAPES} segmentation.pth')

# Command: what the test changes, as pairs of texts or as arguments that it adds.
RUN: dict[str, list[str | tuple[str, str]]] = {
    '. .venv/bin/activate': [],
    'make demo': [f'FLAGS="--num-train 16 --num-val 4 --cfg-options {EPOCH}"'],
    'make test': ['TESTS=tests/test_release.py'],
    f'hrformer predict photo.jpg --boxes whole-image --out first {PUBLISHED}': [],
    f'hrformer predict photos/ --boxes detections.json --out photos-poses {PUBLISHED}': [],
    f'hrformer predict photos/ --boxes detections.json {PUBLISHED}': [],
    f'hrformer predict data/demo/val2017 --out poses {DEMO}': [],
    'python -m hrformer_mmpose.synthetic data/few --num-train 40 --num-val 10': [('40', '16')],
    'DEMO_ROOT=data/few python tools/train.py configs/quickstart/hrformer_tiny_demo_112x84.py': [
        f'--cfg-options {EPOCH}'
    ],
    'hrformer new-dataset annotations.json --images photos/ --out mine': [],
    'hrformer new-dataset annotations.json --images photos/ --out tuned --model base '
    '--weights checkpoint.pth': [('--model base', '--model tiny')],
    'python tools/train.py mine/config.py': [SMALL_EPOCH],
    'python tools/train.py mine/config.py --resume': [SMALL_EPOCH],
    'hrformer doctor': [],
    'hrformer models --weights': [],
    'hrformer predict image.jpg --model hrformer_base_coco_256x192 --checkpoint checkpoint.pth '
    '--boxes whole-image --out one': [],
    'hrformer predict photos/ --model hrformer_base_coco_256x192 --checkpoint checkpoint.pth '
    '--boxes hog --out found': [],
    'python tools/convert_checkpoint.py checkpoint.pth converted.pth': [],
    'hrformer export hrformer_base_coco_256x192 checkpoint.pth hrformer.onnx': ['--no-check'],
    'hrformer export hrformer_small_coco_256x192 checkpoint.pth hrformer.onnx': ['--no-check'],
    'hrformer export hrformer_base_coco_256x192 checkpoint.pth hrformer.xml': ['--no-check'],
    'hrformer predict street.mp4 --model hrformer.onnx --boxes onnx:detector.onnx --track '
    '--smooth savgol --out street': [],
    'hrformer predict photos/ --model hrformer.onnx --boxes detections.json --out photos-poses': [],
    'hrformer predict street.mp4 --model hrformer.onnx --boxes onnx:detector.onnx --out street': [],
    'hrformer predict photos/ --model hrformer_base_coco_256x192 --checkpoint checkpoint.pth '
    '--boxes detections.json': [],
    'hrformer predict street.mp4 --model hrformer.onnx --boxes onnx:detector.onnx --detect-every 5 '
    '--track --smooth savgol --color-by id --out street': [('--out street', '--out street-2')],
    # Own data
    'python -m hrformer_mmpose.synthetic data/people': ['--num-train 12 --num-val 4'],
    f'{PEOPLE}nose left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist '
    '--out arms --model tiny --weights none --input-size 128x96 --epochs 30': [],
    'python tools/train.py arms/config.py --cfg-options optim_wrapper.optimizer.lr=1e-3': [EPOCH],
    'python tools/test.py arms/config.py work_dirs/arms/best_coco_AP_epoch_*.pth '
    '--out metrics.json --badcase': [],
    'hrformer export arms/config.py work_dirs/arms/best_coco_AP_epoch_*.pth arms.onnx': [
        '--no-check'
    ],
    'hrformer predict data/people/val2017 --model arms.onnx --boxes '
    'data/people/person_detection_results/simulated_val2017_person.json --out poses': [],
    f'{PEOPLE}nose left_wrist right_wrist left_ankle right_ankle --out trial --model tiny '
    '--overfit': [],
    'python tools/train.py trial/config.py': [f'--cfg-options {EPOCH}'],
    f'{PEOPLE}nose left_wrist right_wrist left_knee right_knee left_hip right_hip --out body '
    '--model tiny --weights CHECKPOINT': [WEIGHTS],
    'python tools/train.py body/config.py': [f'--cfg-options {EPOCH}'],
    'DEMO_ROOT=data/demo python tools/test.py configs/quickstart/hrformer_tiny_demo_112x84.py '
    'work_dirs/demo/best_coco_AP_epoch_*.pth --out metrics.json --badcase': [],
    'hrformer save-pretrained work_dirs/mine hrformer-mine': [],
    'python tools/test.py work_dirs/mine/CONFIG.py CHECKPOINT --out metrics.json': [],
    'hrformer save-pretrained work_dirs/mine hrformer-mine-tested --checkpoint CHECKPOINT '
    '--results metrics.json': [],
    # Public data sets: generated people and drawn masks in their layouts
    'export COCO_ROOT=/data/coco': [],
    'python tools/check_dataset.py mine/config.py --full': [],
    f'python tools/check_dataset.py {BASE}': [],
    f'python tools/check_dataset.py {BASE} --full': [],
    'python tools/check_dataset.py configs/hrformer_small_crowdpose_256x192.py': [],
    f'COCO_ROOT=/data/coco python tools/train.py {BASE}': [SMALL_EPOCH],
    f'python tools/train.py {BASE}': [SMALL_EPOCH],
    f'python tools/train.py {BASE} --resume': [SMALL_EPOCH, ('max_epochs=1', 'max_epochs=2')],
    f'python tools/test.py {BASE} CHECKPOINT --out metrics.json': [WEIGHTS],
    f'python tools/test.py {BASE} CHECKPOINT --out metrics.json --badcase': [WEIGHTS],
    f'python tools/test.py {BASE} CHECKPOINT '
    '--cfg-options test_dataloader.dataset.bbox_file=None': [WEIGHTS],
    f'bash tools/dist_train.sh {BASE} 8': [('.py 8', '.py 2'), SMALL_EPOCH],
    f'bash tools/dist_test.sh {BASE} CHECKPOINT 8': [('CHECKPOINT 8', 'CHECKPOINT 2'), WEIGHTS],
    f'GPUS=16 bash tools/slurm_train.sh PARTITION JOB {BASE} WORK_DIR': [
        ('GPUS=16', 'GPUS=2'),
        SMALL_EPOCH,
    ],
    f'IMAGENET_ROOT=/data/imagenet bash tools/dist_train.sh {IMAGENET} 8': [
        ('/data/imagenet', '/data/imagenet-4'),
        ('.py 8', '.py 2'),
        f'{SMALL_EPOCH} model.head.num_classes=4',
    ],
    f'IMAGENET_ROOT=/data/imagenet python tools/test.py {IMAGENET} hrt_small.pth': [
        '--cfg-options test_dataloader.dataset.indices=16 test_dataloader.num_workers=1'
    ],
    f'CITYSCAPES_ROOT=/data/cityscapes bash tools/dist_train.sh {CITYSCAPES} 8': [
        ('.py 8', '.py 2'),
        MASKS,
    ],
    f'CITYSCAPES_ROOT=/data/cityscapes python tools/test.py {CITYSCAPES} FILE': [
        (' FILE', ' segmentation.pth')
    ],
    'python tools/test.py CONFIG FILE --cfg-options model.test_cfg.scales="(0.75,1.0,1.25)" '
    'model.test_cfg.flip=True model.test_cfg.size_divisor=8': [SEGMENTATION],
    'python tools/test.py CONFIG FILE --cfg-options model.test_cfg.crop_size="(512,1024)" '
    'model.test_cfg.stride="(341,683)"': [
        SEGMENTATION,
        ('(512,1024)', '(32,64)'),
        ('(341,683)', '(21,43)'),
    ],
    'python -m hrformer_mmpose.synthetic data/people_masks --masks': ['--num-train 8 --num-val 4'],
    'PEOPLE_ROOT=data/people_masks python tools/train.py '
    'configs/quickstart/hrformer_tiny_people_seg_128.py': [f'--cfg-options {EPOCH}'],
    # Times
    'hrformer benchmark poses hrformer_base_coco_256x192 --checkpoint b.pth --exported b.onnx '
    'b_bf16.xml --no-flip --batch-size 1 8 --rounds 9': [('1 8 --rounds 9', '1 2 --rounds 1')],
    'hrformer benchmark poses hrformer_tiny_coco_256x192 --checkpoint t.pth --exported t.onnx '
    '--no-flip --rounds 15 --images COCO_MINI/val2017 '
    '--boxes COCO_MINI/annotations/person_keypoints_val2017.json': [
        ('--rounds 15', '--rounds 1 --batch-size 1')
    ],
}

# Likewise, in an environment of its own: `shared` lies over the tests' one, `empty` is empty.
ONLINE: dict[str, tuple[str, list[str | tuple[str, str]]]] = {
    'make install': ('shared', ['VENV=installed', 'PYTHON=python']),
    "pip install -e '.[docs,export,video]'": ('shared', []),
    'jupyter execute docs/notebook.ipynb': ('shared', ['--inplace --timeout=1800']),
    'pip install nncf': ('shared', []),
    'hrformer export hrformer_base_coco_256x192 checkpoint.pth hrformer_int8.xml --precision int8 '
    '--calibrate COCO/train2017-part --calibrate-boxes person_keypoints_train2017.json '
    '--images COCO/val2017 --boxes person_keypoints_val2017.json': ('shared', ['--force']),
    "pip install --no-deps . && pip install numpy 'opencv-python-headless<5' onnxruntime": (
        'empty',
        [],
    ),
    'pip install --no-deps .': ('empty', []),
    "pip install numpy 'opencv-python-headless<5' onnxruntime fastapi uvicorn": ('empty', []),
    'MODEL=hrformer.onnx uvicorn service:app --app-dir examples': ('empty', ['--port PORT']),
    'curl --data-binary @image.jpg localhost:8000/poses': ('empty', [('8000', 'PORT')]),
    "curl --globoff --data-binary @image.jpg 'localhost:8000/poses?boxes=[[48,20,210,430]]'": (
        'empty',
        [('8000', 'PORT')],
    ),
    "pip install 'gradio>=6,<7' av scipy": ('shared', []),
    'hrformer web --model hrformer.onnx': ('shared', ['--port PORT']),
    'hrformer web --model hrformer.onnx --boxes onnx:detector.onnx': ('shared', ['--port PORT']),
    'python tools/benchmark.py engines --update docs/speed.md --json engines.json': (
        'shared',
        ['--networks HRFormer-S --batch-size 1 --rounds 1'],
    ),
    'python docs/draw_engines.py engines.json': ('shared', []),
}
# Installed before the commands of a page that expect it.
EXPECTED = {'docs/speed.md': 'pip install nncf'}
# Commands that run until they are ended.
SERVERS = ('uvicorn ', 'hrformer web')

# Command: why it is parsed only.
PARSED: dict[str, str] = {
    'hrformer predict camera --model hrformer.onnx --boxes onnx:detector.onnx --show '
    '--out camera': ('needs a camera and a screen; tests/inference reads a replaced camera'),
    'python tools/benchmark.py --device cuda': 'needs a GPU',
}

# Page and start of a block of Python that runs changed: pairs of texts.
PYTHON_CHANGED = {
    ('docs/inference.md', "estimator = PoseEstimator(\n    'hrformer_base_coco"): [
        ("'cuda'", "'cpu'")
    ],
    ('docs/inference.md', 'from hrformer_mmpose.inference import PoseRuntime'): [
        ("'cuda'", "'cpu'")
    ],
}
