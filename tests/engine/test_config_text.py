"""The text of a config is formatted once in a training."""

import copy
import pickle

import pytest

pytest.importorskip('mmengine')
import mmengine.config.config
from mmengine.config import Config

from hrformer_mmpose.engine.config_text import FormattedConfig


@pytest.fixture
def formatted(monkeypatch):
    """Texts that yapf has formatted."""
    texts, format_code = [], mmengine.config.config.FormatCode

    def count(text, **options):
        texts.append(text)
        return format_code(text, **options)

    monkeypatch.setattr(mmengine.config.config, 'FormatCode', count)
    return texts


def test_the_text_is_mmengines_also_after_a_change(formatted):
    cfg = Config(dict(model=dict(type='A', depth=[1, 2]), lr=0.1))
    ours = FormattedConfig.of(cfg)
    assert ours.pretty_text == ours.pretty_text == cfg.pretty_text
    assert len(formatted) == 2
    ours.model.depth[0] = 3
    assert 'depth=[\n        3,' in ours.pretty_text
    ours.lr = 0.2
    assert 'lr = 0.2' in ours.pretty_text
    assert ours.pretty_text == cfg.pretty_text
    for other in (copy.deepcopy(ours), copy.copy(ours), pickle.loads(pickle.dumps(ours))):
        other.lr = 0.3
        assert 'lr = 0.3' in other.pretty_text
    assert 'lr = 0.2' in ours.pretty_text


def test_a_training_formats_once(train, formatted, tmp_path):
    runner = train(tmp_path / 'work')
    assert sorted(path.name for path in (tmp_path / 'work').glob('*.pth')) == [
        'epoch_1.pth',
        'epoch_2.pth',
    ]
    assert len(formatted) == 1
    assert Config.fromfile(next((tmp_path / 'work').glob('*.py'))).train_cfg == runner.cfg.train_cfg
