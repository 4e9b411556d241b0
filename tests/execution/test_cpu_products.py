"""The faster product library of a shape: measured once, kept in the cache folder."""

import json

import pytest
import torch

from hrformer_mmpose.cache import is_private
from hrformer_mmpose.execution import policy
from hrformer_mmpose.execution.cpu import build, products
from hrformer_mmpose.execution.linear import FusedLinear, linear
from tests.conftest import relative_error

SHAPE = 512, 156, 624

pytestmark = pytest.mark.skipif(not policy.HAS_ONEDNN, reason='this PyTorch has no oneDNN')


@pytest.fixture(autouse=True)
def measured(tmp_path, monkeypatch):
    """List of measurements in an empty cache folder, in which oneDNN is the faster library."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.delenv(products.SWITCH, raising=False)
    calls = []
    monkeypatch.setattr(products, '_measure', lambda *shape: calls.append(shape) or [1.0, 2.0])
    new_process(monkeypatch)
    return calls


def new_process(monkeypatch) -> None:
    monkeypatch.setattr(products, '_times', {})
    monkeypatch.setattr(products, '_state', {'loaded': False, 'spent': 0.0})


def file():
    (path,) = build.cache_folder().glob('products-*.json')
    return path


def test_measured_once_for_similar_batches(measured):
    for tokens in (512, 513, 1000):
        assert products.onednn_is_faster(tokens, 156, 624, 'plain', False)
    assert measured == [(512, 156, 624, 'plain')]
    assert products.onednn_is_faster(*SHAPE, 'packed', False)
    assert products.onednn_is_faster(10**6, 156, 624, 'plain', False), (
        'a part of a large product is timed'
    )
    assert [layout for *_, layout in measured] == ['plain', 'packed']


def test_the_next_process_reads_the_file(measured, monkeypatch):
    assert products.onednn_is_faster(*SHAPE, 'plain', False)
    new_process(monkeypatch)
    assert products.onednn_is_faster(*SHAPE, 'plain', False)
    assert len(measured) == 1
    assert 'oneDNN was faster for 1 of 1 measured shapes' in products.describe()
    assert str(file()) in products.describe()


def test_processes_add_to_the_file(measured, monkeypatch):
    products.onednn_is_faster(*SHAPE, 'plain', False)
    first = dict(products._times)
    new_process(monkeypatch)
    products._state['loaded'] = True  # it started before the first one wrote
    products.onednn_is_faster(*SHAPE, 'packed', False)
    assert json.loads(file().read_text()).items() >= first.items()
    assert len(json.loads(file().read_text())) == 2


@pytest.mark.parametrize(('ratio', 'rule', 'answer'), [
    (1.05, True, True), (1.05, False, False), (1.2, True, False), (1.2, False, False),
    (0.95, True, True), (0.95, False, False), (0.8, True, True), (0.8, False, True),
])  # fmt: skip
def test_a_rule_is_replaced_by_a_clearly_faster_library(ratio, rule, answer, monkeypatch):
    monkeypatch.setattr(products, '_measure', lambda *_: [ratio, 1.0])
    assert products.onednn_is_faster(*SHAPE, 'plain', rule) is answer


def test_switched_off(measured, monkeypatch):
    monkeypatch.setenv(products.SWITCH, '0')
    assert products.onednn_is_faster(*SHAPE, 'plain', True)
    assert products.SWITCH in products.describe()
    assert not measured


def test_no_measurement_of_small_products_or_beyond_the_budget(measured):
    assert products.onednn_is_faster(16, 32, 32, 'plain', True)
    products._state['spent'] = products.BUDGET
    assert products.onednn_is_faster(*SHAPE, 'plain', True)
    assert not measured


def test_deterministic_algorithms_take_the_fixed_rule(measured):
    torch.use_deterministic_algorithms(True)
    try:
        assert products.onednn_is_faster(*SHAPE, 'plain', True)
    finally:
        torch.use_deterministic_algorithms(False)
    assert not measured


def writable_by_others(path):
    path.chmod(0o666)


def damaged(path):
    path.write_text('{"a": [1')


def of_another_layout(path):
    path.write_text('[1, 2]')


def a_link(path):
    path.rename(path.with_suffix('.other'))
    path.symlink_to(path.with_suffix('.other'))


@pytest.mark.parametrize('change', [writable_by_others, damaged, of_another_layout, a_link])
def test_files_that_are_not_trusted_are_replaced(change, measured, monkeypatch):
    products.onednn_is_faster(*SHAPE, 'plain', False)
    change(file())
    new_process(monkeypatch)
    assert products.onednn_is_faster(*SHAPE, 'plain', False)
    assert len(measured) == 2
    assert len(json.loads(file().read_text())) == 1
    assert not file().is_symlink()
    assert is_private(file().stat())


def test_a_folder_that_cannot_be_written_to(measured, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, 'Permission denied', 'cache')

    monkeypatch.setattr(products.tempfile, 'NamedTemporaryFile', refuse)
    assert products.onednn_is_faster(*SHAPE, 'plain', False)
    assert products.onednn_is_faster(*SHAPE, 'plain', False)
    assert len(measured) == 1
    monkeypatch.setattr(build, 'cache_folder', refuse)
    assert products.onednn_is_faster(*SHAPE, 'packed', False)
    assert 'not measured yet' in products.describe()


@pytest.mark.parametrize('times', [[1.0, 2.0], [2.0, 1.0]], ids=['oneDNN', 'ATen'])
@torch.no_grad()
def test_layers_take_the_faster_library(times, monkeypatch):
    monkeypatch.setattr(products, '_measure', lambda *_: times)
    calls = []
    kernel = torch.ops.mkldnn._linear_pointwise
    monkeypatch.setattr(
        'hrformer_mmpose.execution.linear._onednn_linear',
        lambda x, weight, bias, residual: (
            calls.append(1) or kernel(x, weight, bias, 'none', [], '')
        ),
    )
    x, weight, bias = torch.randn(512, 156), torch.randn(624, 156), torch.randn(624)
    expected = (x.double() @ weight.double().t()) + bias.double()
    for out in (
        linear(x, weight, bias),
        linear(x, weight.t().contiguous().t(), bias),
        FusedLinear(weight, bias)(x),
    ):
        assert relative_error(out.double(), expected) < 1e-6
    assert len(calls) == (3 if times[0] < times[1] else 0)


def test_a_measurement(monkeypatch):
    monkeypatch.undo()
    state = torch.get_rng_state()
    times = [products._measure(64, 96, 32, layout) for layout in products.LAYOUTS]
    assert all(len(pair) == 2 and min(pair) > 0 for pair in times)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_measurement_under_other_defaults(monkeypatch):
    monkeypatch.undo()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device('meta'):
            times = products._measure(64, 32, 32, 'transposed')
    finally:
        torch.set_default_dtype(torch.float32)
    assert min(times) > 0
