"""Files of PRTR's authors: names, origin, and what is refused."""

import pytest
import torch

pytest.importorskip('mmpose')
from mmpose.registry import MODELS

from hrformer_mmpose.checkpoint import (
    architecture,
    load_weights,
    match,
    origin,
    save_weights,
    to_mmpose,
    to_official,
)
from hrformer_mmpose.checkpoint.files import ORIGINS
from hrformer_mmpose.checkpoint.state_dict_adapter import num_keypoints
from hrformer_mmpose.cli import convert_checkpoint
from hrformer_mmpose.errors import WeightsError
from hrformer_mmpose.zoo import read_config
from tests import official_prtr

pytestmark = pytest.mark.usefixtures('no_init')
TRUNKS = dict(res50='ResNet-50', res101='ResNet-101', hrnet_w32='HRNet-W32')
# Entries of the authors' frozen BatchNorm lack this counter.
COUNTER = 'num_batches_tracked'


def weights(name: str) -> dict[str, torch.Tensor]:
    """Entries of the authors' names and shapes, without memory of their own."""
    return {k: torch.zeros(()).expand(s) for k, s in official_prtr.entries(name).items()}


def model(name: str) -> torch.nn.Module:
    with torch.device('meta'):
        return MODELS.build({**read_config(f'prtr_{name}_coco_384x288').model, '_scope_': 'mmpose'})


@pytest.mark.parametrize('name', official_prtr.NAMES)
def test_names_become_ours_and_back(name):
    theirs = weights(name)
    ours = to_mmpose(theirs)
    shapes = {
        key: value.shape
        for key, value in model(name).state_dict().items()
        if COUNTER not in key or 'hrnet' in name
    }
    assert {key: value.shape for key, value in ours.items()} == shapes
    assert to_official(ours).keys() == theirs.keys()
    assert to_mmpose(ours).keys() == ours.keys()
    older = {key.replace('backbone.0.body', 'backbone.body'): v for key, v in theirs.items()}
    assert to_mmpose(older).keys() == ours.keys()
    assert origin(theirs) == origin(older) == 'official-prtr'
    assert 'official-prtr' in ORIGINS
    assert origin(ours) == 'mmpose'
    for state in (theirs, ours, model(name).state_dict()):
        assert architecture(state) == f'PRTR({TRUNKS[name]}, 6 + 6 layers)'
        assert num_keypoints(state) == 17


@pytest.mark.parametrize('name', official_prtr.NAMES)
def test_each_entry_keeps_its_values(name):
    numbers = {key: value + n for n, (key, value) in enumerate(weights(name).items())}
    back = to_official(to_mmpose(numbers))
    assert all(torch.equal(back[key], value) for key, value in numbers.items())


@pytest.fixture
def small():
    """A PRTR of a ResNet-18 and few channels, with random weights."""
    settings = read_config('prtr_res50_coco_384x288').model
    settings.backbone.depth = 18
    settings.head.update(
        in_channels=512,
        num_queries=18,
        channels=32,
        num_heads=2,
        ffn_channels=48,
        num_layers=(2, 2),
    )
    model = MODELS.build({**settings, '_scope_': 'mmpose'})
    generator = torch.Generator().manual_seed(0)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.normal_(0, 1, generator=generator)
    return model


@pytest.mark.parametrize('ending', ['pth', 'safetensors'])
def test_the_command_converts_there_and_back(small, tmp_path, capsys, ending):
    """Ours to the authors' names and back: the same tensors, which fill the network."""
    ours, official, back = (tmp_path / f'{name}.{ending}' for name in ('a', 'b', 'c'))
    state = {key: value.clone() for key, value in small.state_dict().items()}
    save_weights(state, ours, 'mmpose')
    for source, target, names in ((ours, official, 'official'), (official, back, 'mmpose')):
        flags = [str(source), str(target), '--to', names]
        convert_checkpoint.run(convert_checkpoint.parser().parse_args(flags))
        assert 'architecture  PRTR(ResNet-18, 2 + 2 layers)' in capsys.readouterr().out
    theirs = load_weights(official)
    assert origin(theirs) == 'official-prtr'
    starts = {key.split('.')[0] for key in theirs}
    assert starts == {
        'backbone', 'transformer', 'class_embed', 'kpt_embed', 'query_embed', 'input_proj'
    }  # fmt: skip
    assert all(key.startswith('backbone.0.body.') for key in theirs if key[:8] == 'backbone')
    returned = load_weights(back)
    assert returned.keys() == state.keys()
    assert all(torch.equal(returned[key], value) for key, value in state.items())
    for weight in small.parameters():
        weight.data.zero_()
    match(theirs, small, 'b', complete=True).load_into(small)
    assert all(torch.equal(value, state[key]) for key, value in small.state_dict().items())


def refused(weights: dict, config: str, complete: bool = True) -> str:
    with pytest.raises(WeightsError) as raised:
        match(weights, model(config), 'file.pth', complete=complete)
    assert '\n' not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize('complete', [True, False])
def test_another_trunk_is_refused(complete):
    """ResNet-101 has all entries of ResNet-50, in the same shapes."""
    message = refused(weights('res101'), 'res50', complete)
    assert message == (
        "'file.pth' holds PRTR(ResNet-101, 6 + 6 layers), the config builds PRTR(ResNet-50, 6 + 6 "
        'layers): take the config that fits the file, or another file'
    )
    assert 'HRNet-W32' in refused(weights('hrnet_w32'), 'res50', complete)
    assert 'builds PRTR(HRNet-W32' in refused(weights('res50'), 'hrnet_w32', complete)


def test_fewer_layers_are_refused():
    shallow = {k: v for k, v in weights('res50').items() if 'decoder.layers.5.' not in k}
    assert 'holds PRTR(ResNet-50, 6 + 5 layers)' in refused(shallow, 'res50')


def test_other_keypoints_and_queries_are_refused():
    mpii = {**weights('res50'), 'class_embed.weight': torch.zeros(17, 256)}
    mpii['class_embed.bias'] = torch.zeros(17)
    assert 'predicts 16 keypoints, the config builds a head for 17' in refused(mpii, 'res50')
    queries = {**weights('res50'), 'query_embed.weight': torch.zeros(50, 256)}
    assert 'does not fit the config (head.query_embed.weight)' in refused(queries, 'res50')


def test_deformable_attention_is_refused():
    state = {k: v for k, v in weights('res50').items() if 'attn.in_proj' not in k}
    state['transformer.encoder.layers.0.self_attn.sampling_offsets.weight'] = torch.zeros(256, 256)
    assert refused(state, 'res50').startswith(
        "'file.pth' holds a PRTR with deformable attention, the config builds PRTR(ResNet-50"
    )


def test_the_log_says_what_was_done():
    lines = match(weights('hrnet_w32'), model('hrnet_w32'), 'file.pth', complete=True).lines
    assert lines[0].endswith('PRTR(HRNet-W32, 6 + 6 layers), 17 keypoints, origin official-prtr')
    assert lines[1].startswith("converted: PRTR's names")
    assert lines[3] == 'skipped: nothing'


def test_a_backbone_alone_starts_no_test():
    ours = to_mmpose(weights('hrnet_w32'))
    hrnet = {k.removeprefix('backbone.'): v for k, v in ours.items() if k.startswith('backbone.')}
    assert 'holds HRNet-W32, the config builds PRTR(HRNet-W32' in refused(hrnet, 'hrnet_w32')
