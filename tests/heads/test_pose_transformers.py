"""TokenPose and TransPose against recorded outputs of the authors' code."""

import pytest
import torch

pytest.importorskip('mmpose')

from hrformer_mmpose.checkpoint import load_pretrained
from tests import official
from tests import pose_transformers as recorded
from tests.conftest import relative_error


@pytest.mark.parametrize('name', recorded.networks('tokenpose_s_v1', 'transpose_r_a3'))
@torch.no_grad()
def test_heatmaps_are_the_authors(name, tmp_path, no_init):
    torch.save(recorded.state_dict(name), tmp_path / 'authors.pth')
    model = recorded.build(name)
    result = load_pretrained(model, tmp_path / 'authors.pth')
    assert 'skipped: nothing' in result.lines[3]
    assert len(result.lines) == 4  # nothing initialised anew
    H, W = (384, 288) if name.endswith('384') else (256, 192)
    heatmaps = model(official.image(1, H, W, seed=H + W), None, mode='tensor')
    assert relative_error(heatmaps[:, ::3, ::5, ::5], recorded.output(name)) < 1e-5


@pytest.mark.parametrize('name', recorded.CONFIGS)
def test_position_embeddings_are_the_authors(name):
    key = next(key for key in recorded.entries(name) if key.endswith('pos_embedding'))
    ours = recorded.state_dict(name)[key].flatten(0, 1)
    assert relative_error(ours[::17, ::13], recorded.output(f'{name}_pos_embedding')) < 1e-6
