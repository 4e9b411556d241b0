"""TokenPose and TransPose train on real people, are tested, exported, and predict."""

import numpy as np
import pytest

pytest.importorskip('mmpose')
pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
from mmengine.registry import DefaultScope

from hrformer_mmpose import zoo
from hrformer_mmpose.cli import launch
from hrformer_mmpose.export import files, report
from hrformer_mmpose.inference import PoseRuntime
from hrformer_mmpose.inference.detectors import CocoDetections
from hrformer_mmpose.inference.torch_network import TorchNetwork
from tests import pose_transformers as recorded

CONFIGS = [*recorded.CONFIGS.values(), 'hrformer_small_tokenpose_coco_256x192']


@pytest.mark.slow
@pytest.mark.parametrize('name', CONFIGS)
def test_from_training_to_poses(name, shared, tmp_path, monkeypatch):
    root = shared / 'data/coco-mini'
    monkeypatch.setenv('COCO_ROOT', str(root))
    monkeypatch.setenv('COCO_DETECTIONS', 'person_detection_results/simulated_val2017_person.json')
    checkpoint = trained(name, tmp_path)
    network = TorchNetwork(name, checkpoint, 'cpu', flip_test=False, fuse=False)
    assert network._poses is not None  # decodes on its device
    boxes = CocoDetections(root / 'annotations/person_keypoints_val2017.json')
    images = [str(root / 'val2017' / image) for image in sorted(boxes)[:2]]
    files.write(network, checkpoint, tmp_path / 'heatmaps.onnx', decode=False)
    (comparison, *_) = report.check(network, tmp_path / 'heatmaps.onnx', images, boxes)
    assert comparison.passed, str(comparison)
    files.write(network, checkpoint, tmp_path / 'poses.onnx')
    poses = [*PoseRuntime(tmp_path / 'poses.onnx', 'onnxruntime', threads=1)(images, boxes)]
    assert all(len(people) for people in poses)
    assert all(np.isfinite(person.keypoints).all() for people in poses for person in people)


def trained(name: str, folder) -> str:
    """Train a config for three iterations and validate it; return the checkpoint."""
    cfg = zoo.read_config(name)
    cfg.work_dir, cfg.launcher, cfg.experiment_name = str(folder), 'none', folder.name
    cfg.model.backbone.pop('init_cfg', None)
    cfg.train_cfg.update(max_epochs=1, val_interval=1)
    for loader, samples in ((cfg.train_dataloader, 6), (cfg.val_dataloader, 2)):
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        loader.dataset.indices = samples
    runner = launch.build_runner(cfg)
    runner.train()
    assert runner.iter == 3
    assert np.isfinite(runner.message_hub.get_scalar('train/loss_kpt').current())
    DefaultScope._instance_dict.clear()
    return str(folder / 'epoch_1.pth')
