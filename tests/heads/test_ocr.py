"""The OCR head and its losses, against recorded outputs of the authors' code and by hand."""

import pytest
import torch

from hrformer_mmpose.errors import ConfigError
from hrformer_mmpose.heads import ocr
from hrformer_mmpose.heads.segmentation import resize
from hrformer_mmpose.heads.segmentation_loss import cross_entropy, ohem_cross_entropy
from tests import official
from tests.conftest import relative_error

CHANNELS = (32, 64, 128, 256)
SIZES = [(16, 18), (8, 9), (4, 5), (2, 3)]
SIZE = (64, 72)
IGNORED = 255
# Cityscapes, in the authors' configs.
WEIGHTS = (
    0.8373, 0.918, 0.866, 1.0345, 1.0166, 0.9969, 0.9754, 1.0489, 0.8786, 1.0023, 0.9539, 0.9843,
    1.1116, 0.9037, 1.0865, 1.0955, 1.0865, 1.1529, 1.0507,
)  # fmt: skip


@pytest.fixture(scope='module')
def weights():
    entries = official.state_dict('seg_small')
    return {key: value for key, value in entries.items() if not key.startswith('backbone.')}


def head(weights, **settings) -> ocr.OCRHead:
    head = ocr.OCRHead(CHANNELS, 19, **settings)
    head.load_state_dict(weights)  # strict: the names are the authors'
    return head.eval()


@pytest.fixture(scope='module')
def maps():
    return official.maps(CHANNELS, SIZES)


@torch.no_grad()
def test_both_outputs_are_the_authors(weights, maps):
    logits, coarse = head(weights).both_logits(maps)
    for ours, name in ((logits, 'logits'), (coarse, 'aux')):
        recorded = official.output(f'seg_small_head_{name}')
        assert relative_error(resize(ours, SIZE)[:, ::3, ::3, ::3], recorded) < 1e-5


@pytest.mark.parametrize('weighted', [True, False])
@pytest.mark.parametrize(
    ('name', 'settings'),
    [
        ('ce_0.9_100', dict()),
        ('ohem_0.9_100', dict(ohem_threshold=0.9, ohem_min_kept=100)),  # all are hard
        ('ohem_0.02_100', dict(ohem_threshold=0.02, ohem_min_kept=100)),  # by the threshold
        ('ohem_0.02_5000', dict(ohem_threshold=0.02, ohem_min_kept=5000)),  # by their number
    ],
)
@torch.no_grad()
def test_the_losses_are_the_authors(weights, maps, name, settings, weighted):
    if weighted:
        settings = dict(settings, class_weight=WEIGHTS)
    target = official.labels(-1, 19, (2, *SIZE))
    losses = head(weights, **settings).loss(maps, target.where(target >= 0, IGNORED))
    recorded = official.output(f'seg_small_head_loss_{name}_{"weighted" if weighted else "plain"}')
    assert torch.allclose(sum(losses.values()), recorded, rtol=1e-6)


def test_hard_pixels_by_hand():
    probability = torch.tensor([0.9, 0.6, 0.3, 0.2, 0.1, 0.05])
    logits = torch.stack([probability, 1 - probability]).log()[None, :, None]  # (1, 2, 1, 6)
    target = torch.tensor([[[0, 0, 0, 0, 0, IGNORED]]])
    loss = -probability.log()

    def ohem(threshold, min_kept):
        return ohem_cross_entropy(logits, target, threshold, min_kept)

    assert torch.allclose(ohem(0.5, 1), loss[2:5].mean())
    assert torch.allclose(ohem(0.15, 3), loss[2:5].mean())  # three, though one is hard
    assert torch.allclose(ohem(1.0, 1), loss[:5].mean())
    # The hardest pixel stays; the threshold is an exclusive bound, as in the authors' code.
    assert torch.allclose(ohem(0.05, 1), loss[4])


def test_without_a_valid_pixel_there_is_no_loss_and_no_nan():
    logits = torch.randn(1, 3, 4, 5, requires_grad=True)
    target = torch.full((1, 4, 5), IGNORED)
    for weight in (None, torch.ones(3)):
        loss = cross_entropy(logits, target, weight) + ohem_cross_entropy(
            logits, target, 0.7, 3, weight
        )
        loss.backward()
        assert loss == 0
        assert not logits.grad.any()


def test_the_region_of_a_class_is_the_mean_over_its_mask():
    features = torch.randn(2, 6, 3, 4)
    masks = torch.full((2, 3, 3, 4), -1e4)
    masks[:, 0] = 0
    masks[:, 1, 1, 2] = masks[:, 2, 0, :2] = 1e4
    regions = ocr.gather_regions(features, masks)[..., 0]
    expected = (features.mean((2, 3)), features[:, :, 1, 2], features[:, :, 0, :2].mean(2))
    assert torch.allclose(regions, torch.stack(expected, 2), atol=1e-6)


def test_all_parameters_learn_and_the_class_weights_are_not_stored(maps):
    head = ocr.OCRHead(CHANNELS, 2, channels=8, key_channels=4, class_weight=(1.0, 2.0))
    sum(head.loss(maps, torch.randint(2, (2, *SIZE))).values()).backward()
    assert all(p.grad is not None for p in head.parameters())
    assert not any('class_weight' in key for key in head.state_dict())


@pytest.mark.slow
@torch.no_grad()
def test_mixed_precision_changes_the_loss_little(weights, maps):
    target = official.labels(0, 19, (2, *SIZE))
    model = head(weights, class_weight=WEIGHTS, ohem_threshold=0.9, ohem_min_kept=100)
    expected = model.loss(maps, target)
    with torch.autocast('cpu', torch.bfloat16):
        losses = model.loss(maps, target)
    for name, loss in losses.items():
        assert loss.dtype is torch.float32
        assert loss == pytest.approx(float(expected[name]), rel=1e-2)
        assert loss != expected[name]


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(class_weight=(1.0,)), 'class_weight has 1 numbers, num_classes=2'),
        (dict(ohem_threshold=0.0), r'ohem_threshold=0.0 is not in \(0, 1\]'),
        (dict(dropout=1.0), r'dropout=1.0 is not in \[0, 1\)'),
    ],
)
def test_a_wrong_value_is_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        ocr.OCRHead(CHANNELS, 2, channels=8, key_channels=4, **settings)
