"""`create_backbone`: the network alone in timm's conventions."""

import logging

import pytest
import torch

from hrformer_mmpose import create_backbone
from hrformer_mmpose.backbones.create import NAMES
from hrformer_mmpose.backbones.feature_info import absolute_indices
from hrformer_mmpose.errors import ConfigError, WeightsError
from tests import official
from tests.compat.test_host import run
from tests.conftest import relative_error


@pytest.fixture
def authors_file(tmp_path):
    """The authors' classification file of HRFormer-S."""
    path = tmp_path / 'cls.pth'
    torch.save({'model': dict(official.state_dict('cls_small'))}, path)
    return path


@pytest.mark.slow
@pytest.mark.usefixtures('no_init')
@torch.no_grad()
def test_features_equal_the_recorded_maps_of_the_authors(authors_file):
    image = official.image(2, 224, 224, seed=7)
    options = dict(pretrained=authors_file, features_only=True, align_corners=True)
    model = create_backbone('hrformer_small', **options, out_indices=(-1, 2)).eval()
    recorded = [official.output(f'cls_small_map{i}_2x224x224') for i in (1, 3)]
    for output, expected in zip(model(image), recorded, strict=True):
        assert relative_error(output[:, ::3, ::5, ::5], expected) < 1e-5
    assert model.feature_info.channels() == [64, 256]
    model.backbone = model.backbone.fuse_for_inference()
    assert relative_error(model(image)[1][:, ::3, ::5, ::5], recorded[1]) < 1e-5


@pytest.mark.slow
@pytest.mark.usefixtures('no_init')
@torch.no_grad()
def test_logits_equal_the_recorded_ones_of_the_authors(authors_file):
    model = create_backbone('hrformer_small', pretrained=authors_file).eval()
    image = official.image(2, 224, 224, seed=7)
    recorded = official.output('cls_small_logits_2x224x224')
    assert relative_error(model(image), recorded) < 1e-5
    features = model.forward_features(image)
    assert features.shape == (2, model.num_features, 7, 7)
    assert relative_error(model.forward_head(features), recorded) < 1e-5
    pooled = model.forward_head(features, pre_logits=True)
    assert relative_error(model.get_classifier()(pooled), recorded) < 1e-5
    model.reset_classifier(0)
    assert model.num_classes == 0
    assert relative_error(model(image), pooled) < 1e-5
    model.reset_classifier(7)
    assert model(image).shape == (2, model.num_classes)
    assert not model.get_classifier().training


@pytest.mark.slow
@pytest.mark.usefixtures('no_init')
def test_another_number_of_classes_and_channels(authors_file, caplog):
    model = create_backbone('hrformer_small', authors_file, num_classes=5, in_chans=1)
    assert "'head'" not in caplog.text
    assert 'initialised anew: head (2' in caplog.text  # the classifier alone
    weights = official.state_dict('cls_small')
    assert torch.equal(model.backbone.conv1.weight, weights['conv1.weight'].sum(1, keepdim=True))
    assert torch.equal(model.head.final_layer[0].weight, weights['final_layer.0.weight'])
    assert model.get_classifier().weight.shape == (5, 2048)


@pytest.mark.slow
@pytest.mark.usefixtures('no_init')
def test_a_pose_file_has_no_lower_maps(tmp_path, caplog):
    torch.save({'state_dict': dict(official.state_dict('pose_small'))}, tmp_path / 'pose.pth')
    create_backbone('hrformer_small', tmp_path / 'pose.pth', features_only=True, out_indices=(0, 1))
    assert 'initialised anew' not in caplog.text
    create_backbone('hrformer_small', tmp_path / 'pose.pth', features_only=True)
    assert [r.levelno for r in caplog.records if 'initialised anew' in r.message] == [
        logging.WARNING
    ]
    assert 'maps of lower resolution' in caplog.text


def test_the_first_convolution_of_other_channels_is_converted_as_timm_does(tmp_path):
    timm = pytest.importorskip('timm.models')
    model = create_backbone('hrformer_tiny', features_only=True, out_indices=(1,))
    torch.save(model.state_dict(), tmp_path / 'file.pth')
    for channels in (1, 2, 4, 7):
        other = create_backbone(
            'hrformer_tiny', tmp_path / 'file.pth', True, (1,), in_chans=channels
        )
        expected = timm.adapt_input_conv(channels, model.backbone.conv1.weight.detach())
        assert torch.equal(other.backbone.conv1.weight, expected)


@pytest.mark.parametrize('indices', [(0, 1, 2, 3, 4), (1, 4), (-1,), (0, -2), 1, 3, 5])
def test_feature_info_is_timms(indices):
    timm = pytest.importorskip('timm.models._features')
    model = create_backbone('hrformer_tiny', features_only=True, out_indices=indices).eval()
    ours, theirs = model.feature_info, timm.FeatureInfo([*map(dict, model.feature_info)], indices)
    taken, _ = timm.feature_take_indices(len(ours), indices)
    assert model.out_indices == tuple(taken)
    for accessor in ('channels', 'reduction', 'module_name', 'get_dicts'):
        call, expected = getattr(ours, accessor), getattr(theirs, accessor)
        assert call() == expected()
        for idx in (3, [0, 2]):
            by_name = dict(idx=idx)
            assert call(**by_name) == expected(**by_name)
    with torch.no_grad():
        maps = model(torch.rand(1, 3, 64, 96))
    assert [x.shape[1] for x in maps] == theirs.channels()
    assert [(64 // x.shape[2], 96 // x.shape[3]) for x in maps] == [
        (n, n) for n in theirs.reduction()
    ]


def test_names_and_strides_are_those_of_timms_hrnet():
    timm = pytest.importorskip('timm')
    hrnet = timm.create_model('hrnet_w18_small', features_only=True)
    ours = create_backbone('hrformer_tiny', features_only=True)
    assert ours.feature_info.module_name() == hrnet.feature_info.module_name()
    assert ours.feature_info.reduction() == hrnet.feature_info.reduction()
    assert ours.out_indices == tuple(hrnet.feature_info.out_indices)
    classifier = timm.create_model('hrnet_w18_small', num_classes=3)
    mine = create_backbone('hrformer_tiny', num_classes=3)
    for name in ('num_classes', 'num_features', 'head_hidden_size'):
        assert getattr(mine, name) == getattr(classifier, name)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for name in ('forward', 'forward_features'):
            assert getattr(mine, name)(images).shape == getattr(classifier, name)(images).shape
    for model in (mine, classifier):
        model.reset_classifier(0)
        assert model.get_classifier()(images) is images
    for key in ('mean', 'std', 'input_size'):
        assert mine.pretrained_cfg[key] == classifier.pretrained_cfg[key]


@pytest.mark.slow
def test_gradients_reach_what_the_maps_need():
    model = create_backbone('hrformer_tiny', features_only=True, out_indices=(0, 1), with_cp=True)
    sum(x.sum() for x in model(torch.rand(2, 3, 32, 32))).backward()
    assert all(p.grad is not None for p in model.parameters())
    classifier = create_backbone('hrformer_tiny', num_classes=2)
    assert classifier.no_weight_decay() < {name for name, _ in classifier.named_parameters()}
    assert len(classifier.no_weight_decay()) == sum(
        'bias_table' in name for name in classifier.state_dict()
    )


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(name='hrformer_smal'), 'did you mean hrformer_small'),
        (dict(out_indices=(1,)), 'features_only=True'),
        (dict(out_indices=(5,), features_only=True), 'from -5 to 4'),
        (dict(out_indices=6, features_only=True), 'last 1 to 5 maps'),
        (dict(out_indices=(), features_only=True), 'give'),
        (dict(out_indices='last', features_only=True), 'out_indices'),
        (dict(num_classes=-1), 'num_classes=-1'),
        (dict(multiscale_output=True), 'leave it out'),
        (dict(pretrained='nowhere.pth'), 'does not exist'),
    ],
    ids=str,
)
def test_mistakes_are_one_line(arguments, message):
    with pytest.raises((ConfigError, WeightsError), match=message) as error:
        create_backbone(**dict(name='hrformer_tiny') | arguments)
    assert '\n' not in str(error.value)


def test_without_an_index_all_maps_are_taken():
    assert absolute_indices(None, 5) == (0, 1, 2, 3, 4)
    assert absolute_indices((4, 1, -1), 5) == (1, 4)  # in the order of the maps
    assert NAMES == ('hrformer_tiny', 'hrformer_small', 'hrformer_base')


def test_it_needs_torch_alone(tmp_path):
    torch.save(
        create_backbone('hrformer_tiny', features_only=True).state_dict(), tmp_path / 'file.pth'
    )
    out = run(
        f"""
        import torch
        from hrformer_mmpose import create_backbone
        model = create_backbone(
            'hrformer_tiny', {str(tmp_path / 'file.pth')!r}, True, out_indices=(-1,)
        )
        print(model(torch.rand(1, 3, 64, 32))[0].shape)
        print(create_backbone('hrformer_tiny', num_classes=4)(torch.rand(2, 3, 32, 32)).shape)
        foreign = {{name.split('.')[0] for name, module in sys.modules.items() if module}}
        print(sorted(foreign & {{'mmengine', 'mmcv', 'mmpose', 'cv2', 'timm', 'safetensors'}}))
        """,
        hide=('mmengine', 'mmcv', 'mmpose', 'cv2', 'timm', 'safetensors'),
    )
    assert out.splitlines() == ['torch.Size([1, 144, 2, 1])', 'torch.Size([2, 4])', '[]']
