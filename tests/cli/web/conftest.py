"""The page's model with a network whose answer is known."""

import pytest

from hrformer_mmpose.cli.web import arguments, model
from hrformer_mmpose.inference.estimator import Estimator
from tests.inference.helpers import Brightest


def options(*flags: str):
    args = arguments.parser().parse_args(['--model', 'm.onnx', *flags])
    return arguments.read(args)[0]


@pytest.fixture
def network(monkeypatch) -> Brightest:
    """Finds the brightest pixel of a crop; `batches` counts its calls."""
    network = Brightest()

    def estimator(options):
        return Estimator(network, options.batch_size, options.box_threshold or 0.0, 'skip')

    monkeypatch.setattr(model, 'open_estimator', estimator)
    return network


@pytest.fixture
def make_model(network):
    return lambda *flags: model.Model(options(*flags))
