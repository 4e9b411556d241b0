"""PRTR as one graph: poses of PyTorch from exported files, and what cannot be exported."""

import numpy as np
import pytest
import torch

pytest.importorskip('mmpose')
pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')

from hrformer_mmpose.checkpoint import save_weights
from hrformer_mmpose.errors import ConfigError
from hrformer_mmpose.export import files
from hrformer_mmpose.inference.networks import open_network
from hrformer_mmpose.inference.torch_network import TorchNetwork, build
from hrformer_mmpose.zoo import read_config
from tests.conftest import ROOT

# 18 queries for 17 keypoints: several keypoints prefer the same one.
CONFIG = f"""
_base_ = ['{ROOT}/configs/_base_/prtr.py', '{ROOT}/configs/_base_/coco_384x288_prtr.py']
codec = dict(input_size=(72, 96))
crop = dict(type='hrformer_mmpose.TopdownAffine', input_size=codec['input_size'])
test_dataloader = dict(
    dataset=dict(
        pipeline=[crop if 'Affine' in step['type'] else step for step in _base_.val_pipeline]
    )
)
model = dict(
    backbone=dict(depth=18),
    head=dict(
        in_channels=512, num_queries=18, channels=32, num_heads=2, ffn_channels=48,
        num_layers=(2, 2), decoder=dict(_base_.codec, input_size=codec['input_size']),
    ),
)
"""


@pytest.fixture(scope='module')
def network(tmp_path_factory):
    """A small network whose queries differ, and the file of its weights."""
    folder = tmp_path_factory.mktemp('prtr')
    (folder / 'small.py').write_text(CONFIG)
    torch.manual_seed(0)
    model = build(read_config(folder / 'small.py'), 'small')
    model.head.class_embed.weight.data.normal_(0, 1)
    model.head.query_embed.weight.data.normal_(0, 4)
    for layer in model.head.kpt_embed.layers:
        layer.weight.data.normal_(0, 0.3)
    save_weights(model.state_dict(), folder / 'small.pth', 'mmpose')
    return TorchNetwork(folder / 'small.py', folder / 'small.pth', 'cpu', fuse=False), folder


def crops(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 96, 72, 3), dtype=np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize('suffix', ['.onnx', '.xml'])
def test_files_give_the_poses_of_pytorch(network, suffix):
    pytest.importorskip({'.onnx': 'onnxruntime', '.xml': 'openvino'}[suffix])
    torch_network, folder = network
    path = folder / f'small{suffix}'
    description = files.write(torch_network, folder / 'small.pth', path)
    assert description.flip_test
    assert not description.rgb
    exported = open_network(path, threads=1)
    for count in (1, 5):
        expected, scores = torch_network.predict(crops(count))
        keypoints, exported_scores = exported.predict(crops(count))
        assert np.ptp(expected, axis=1).min() > 1
        np.testing.assert_allclose(keypoints, expected, atol=1e-3)
        np.testing.assert_allclose(exported_scores, scores, atol=1e-5)


@torch.no_grad()
def test_keypoints_compete_for_queries(network):
    """Without the competition the test above would not see the assignment."""
    model = network[0].model
    state = model.head.states(model.extract_feat(torch.rand(4, 3, 96, 72)))[-1]
    best = model.head.class_embed(state)[..., :-1].softmax(2).argmax(1)
    assert any(len({*row.tolist()}) < 17 for row in best)


def test_without_decoding_it_is_refused(network):
    torch_network, folder = network
    with pytest.raises(ConfigError, match="config 'small': PRTRHead has no heatmaps"):
        files.write(torch_network, folder / 'small.pth', folder / 'raw.onnx', decode=False)
    assert not (folder / 'raw.onnx').exists()
