"""Which commands of the pages run in `test_commands.py`, and which are parsed only, and why."""

DEMO = (
    '--model hrformer_tiny_demo_112x84 --checkpoint work_dirs/demo/best_coco_AP_epoch_*.pth '
    '--boxes data/demo/person_detection_results/simulated_val2017_person.json'
)
PEOPLE = (
    'hrformer new-dataset data/people/annotations/person_keypoints_train2017.json '
    '--images data/people/train2017 --keypoints '
)
BASE = 'configs/hrformer_base_coco_256x192.py'

# Command: what the test changes, as pairs of texts; or arguments that it adds. All run with
# HRFormer-T in place of B and S.
RUN: dict[str, str | tuple[str, str]] = {
    f'hrformer predict data/demo/val2017 --out poses {DEMO}': '',
    'python -m hrformer_mmpose.synthetic data/few --num-train 40 --num-val 10': ('40', '16'),
    'DEMO_ROOT=data/few python tools/train.py configs/quickstart/hrformer_tiny_demo_112x84.py': (
        '--cfg-options train_cfg.max_epochs=1 train_cfg.val_interval=1'
    ),
    'hrformer new-dataset annotations.json --images photos/ --out mine': '',
    'hrformer new-dataset annotations.json --images photos/ --out tuned --model base '
    '--weights checkpoint.pth': ('--model base', '--model tiny'),
    'hrformer doctor': '',
    'hrformer models --weights': '',
    'hrformer predict image.jpg --model hrformer_base_coco_256x192 --checkpoint checkpoint.pth '
    '--boxes whole-image --out one': '',
    'hrformer predict photos/ --model hrformer_base_coco_256x192 --checkpoint checkpoint.pth '
    '--boxes hog --out found': '',
    'python tools/convert_checkpoint.py checkpoint.pth converted.pth': '',
    'python tools/check_dataset.py mine/config.py --full': '',
    'hrformer export hrformer_base_coco_256x192 checkpoint.pth hrformer.onnx': '--no-check',
    'hrformer predict street.mp4 --model hrformer.onnx --boxes onnx:detector.onnx --track '
    '--smooth savgol --out street': '',
    'hrformer predict photos/ --model hrformer.onnx --boxes detections.json --out photos-poses': '',
    'hrformer predict street.mp4 --model hrformer.onnx --boxes onnx:detector.onnx --out street': '',
    'hrformer predict photos/ --model hrformer_base_coco_256x192 --checkpoint checkpoint.pth '
    '--boxes detections.json': '',
    'hrformer predict street.mp4 --model hrformer.onnx --boxes onnx:detector.onnx --detect-every 5 '
    '--track --smooth savgol --color-by id --out street': ('--out street', '--out street-2'),
    'python -m hrformer_mmpose.synthetic data/people': '--num-train 12 --num-val 4',
    f'{PEOPLE}nose left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist '
    '--out arms --model tiny --weights none --input-size 128x96 --epochs 30': '',
    'python tools/train.py arms/config.py --cfg-options optim_wrapper.optimizer.lr=1e-3': (
        'train_cfg.max_epochs=1 train_cfg.val_interval=1'
    ),
    'python tools/test.py arms/config.py work_dirs/arms/best_coco_AP_epoch_*.pth '
    '--out metrics.json --badcase': '',
    'hrformer export arms/config.py work_dirs/arms/best_coco_AP_epoch_*.pth arms.onnx': (
        '--no-check'
    ),
    'hrformer predict data/people/val2017 --model arms.onnx --boxes '
    'data/people/person_detection_results/simulated_val2017_person.json --out poses': '',
    f'{PEOPLE}nose left_wrist right_wrist left_ankle right_ankle --out trial --model tiny '
    '--overfit': '',
    f'{PEOPLE}nose left_wrist right_wrist left_knee right_knee left_hip right_hip --out body '
    '--model tiny --weights CHECKPOINT': '',
    'DEMO_ROOT=data/demo python tools/test.py configs/quickstart/hrformer_tiny_demo_112x84.py '
    'work_dirs/demo/best_coco_AP_epoch_*.pth --out metrics.json --badcase': '',
    'hrformer save-pretrained work_dirs/mine hrformer-mine': '',
    'python tools/test.py work_dirs/mine/CONFIG.py CHECKPOINT --out metrics.json': '',
    'hrformer save-pretrained work_dirs/mine hrformer-mine --results metrics.json': (
        ' hrformer-mine ',
        ' hrformer-mine-2 ',
    ),
}

COCO = 'needs COCO'
GPUS = 'needs several GPUs or a cluster'
DOWNLOAD = 'downloads weights'
INSTALL = 'installs packages'
SHELL = 'changes the shell that it runs in'
TRAINING = 'a training like the one above it'
WEB = 'tests/cli/web opens the page in a browser'
SERVICE = 'tests/examples starts the service and sends it images'

# Command: why it is parsed only.
PARSED: dict[str, str] = {
    'make demo': 'takes minutes; the demo is this training on more people',
    'make test': 'runs this test',
    '. .venv/bin/activate': SHELL,
    'export COCO_ROOT=/data/coco': SHELL,
    'python tools/train.py mine/config.py': DOWNLOAD,
    'python tools/train.py mine/config.py --resume': DOWNLOAD,
    'python tools/train.py trial/config.py': TRAINING,
    'python tools/train.py body/config.py': TRAINING,
    'hrformer predict photos/ --boxes detections.json --out photos-poses --model '
    'hrformer_base_coco_256x192 --checkpoint mmpose://hrformer_base_coco_256x192': DOWNLOAD,
    'hrformer predict photos/ --boxes detections.json --model hrformer_base_coco_256x192 '
    '--checkpoint mmpose://hrformer_base_coco_256x192': DOWNLOAD,
    "pip install -e '.[docs,export,video]'": INSTALL,
    "pip install --no-deps . && pip install numpy 'opencv-python-headless<5' onnxruntime": INSTALL,
    'pip install --no-deps hrformer-mmpose': INSTALL,
    "pip install numpy 'opencv-python-headless<5' onnxruntime fastapi uvicorn": INSTALL,
    'jupyter execute docs/notebook.ipynb': 'test_notebook.py runs the notebook',
    'hrformer predict camera --model hrformer.onnx --show --out camera': 'needs a camera',
    f'python tools/check_dataset.py {BASE}': COCO,
    f'python tools/check_dataset.py {BASE} --full': COCO,
    f'python tools/train.py {BASE}': COCO,
    f'python tools/train.py {BASE} --resume': COCO,
    f'python tools/test.py {BASE} CHECKPOINT --out metrics.json': COCO,
    f'python tools/test.py {BASE} CHECKPOINT --out metrics.json --badcase': COCO,
    f'python tools/test.py {BASE} CHECKPOINT '
    '--cfg-options test_dataloader.dataset.bbox_file=None': COCO,
    'python tools/check_dataset.py configs/hrformer_small_crowdpose_256x192.py': 'needs CrowdPose',
    f'bash tools/dist_train.sh {BASE} 8': GPUS,
    f'bash tools/dist_test.sh {BASE} CHECKPOINT 8': GPUS,
    f'GPUS=16 bash tools/slurm_train.sh PARTITION JOB {BASE} WORK_DIR': GPUS,
    'IMAGENET_ROOT=/data/imagenet bash tools/dist_train.sh '
    'configs/imagenet/hrformer_small_imagenet_224.py 8': GPUS,
    'IMAGENET_ROOT=/data/imagenet python tools/test.py '
    'configs/imagenet/hrformer_small_imagenet_224.py hrt_small.pth': 'needs ImageNet',
    'CITYSCAPES_ROOT=/data/cityscapes bash tools/dist_train.sh '
    'configs/segmentation/hrformer_small_cityscapes_512x1024.py 8': GPUS,
    'CITYSCAPES_ROOT=/data/cityscapes python tools/test.py '
    'configs/segmentation/hrformer_small_cityscapes_512x1024.py FILE': 'needs Cityscapes',
    'python tools/test.py CONFIG FILE --cfg-options model.test_cfg.scales="(0.75,1.0,1.25)" '
    'model.test_cfg.flip=True model.test_cfg.size_divisor=8': 'needs a segmentation data set',
    'python tools/test.py CONFIG FILE --cfg-options model.test_cfg.crop_size="(512,1024)" '
    'model.test_cfg.stride="(341,683)"': 'needs a segmentation data set',
    'python -m hrformer_mmpose.synthetic data/people --masks': 'tests/synthetic draws masks',
    'python tools/train.py configs/quickstart/hrformer_tiny_people_seg_128.py': (
        'tests/engine trains segmentation'
    ),
    'hrformer export hrformer_base_coco_256x192 checkpoint.pth hrformer.xml': (
        'needs OpenVINO; tests/export writes it'
    ),
    'hrformer benchmark poses hrformer_base_coco_256x192 --checkpoint b.pth --exported b.onnx '
    'b_bf16.xml --no-flip --batch-size 1 8 --rounds 9': 'tests/benchmark runs it in small',
    'hrformer benchmark poses hrformer_tiny_coco_256x192 --checkpoint t.pth --exported t.onnx '
    '--no-flip --rounds 15 --images COCO_MINI/val2017 '
    '--boxes COCO_MINI/annotations/person_keypoints_val2017.json': (
        'tests/benchmark runs it in small'
    ),
    'python tools/benchmark.py --device cuda': 'needs a GPU',
    'python tools/benchmark.py engines --update docs/speed.md --json engines.json': (
        'tests/benchmark runs it in small'
    ),
    'python docs/draw_engines.py engines.json': 'needs the measurements of the command before it',
    'hrformer export hrformer_base_coco_256x192 checkpoint.pth hrformer_int8.xml --precision int8 '
    '--calibrate COCO/train2017-part --calibrate-boxes person_keypoints_train2017.json '
    '--images COCO/val2017 --boxes person_keypoints_val2017.json': COCO,
    'pip install nncf': INSTALL,
    "pip install 'gradio>=6,<7' av scipy": INSTALL,
    'hrformer web --model hrformer.onnx': WEB,
    'hrformer web --model hrformer.onnx --boxes onnx:detector.onnx': WEB,
    'hrformer export hrformer_small_coco_256x192 checkpoint.pth hrformer.onnx': (
        'docs/export.md runs it'
    ),
    'MODEL=hrformer.onnx uvicorn service:app --app-dir examples': SERVICE,
    'curl --data-binary @image.jpg localhost:8000/poses': SERVICE,
    "curl --globoff --data-binary @image.jpg 'localhost:8000/poses?boxes=[[48,20,210,430]]'": (
        SERVICE
    ),
}

# Page and start of a block of Python that does not run: why.
PYTHON_NOT_RUN = {
    ('docs/inference.md', "estimator = PoseEstimator(\n    'hrformer_base_coco"): 'needs a GPU',
}
