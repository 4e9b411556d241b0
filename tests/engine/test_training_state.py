"""A training state as plain data, and what a damaged or hostile one gives: one line."""

import copy
import random
from collections import Counter

import pytest
import torch

pytest.importorskip('mmpose')
from hrformer_mmpose.engine.training_state import is_training_state
from hrformer_mmpose.errors import UserError
from tests.fuzz.mutate import mutate_tree

# Entries of a state, the value that is put there, and the name that the line must hold.
MALFORMED = [
    (('meta',), 3, 'meta must be a dict'),
    (('meta', 'epoch'), 'x', "meta.epoch is 'x'"),
    (('meta', 'iter'), -3, 'meta.iter is -3'),
    (('meta', 'seed'), 'x', "meta.seed is 'x'"),
    (('meta', 'seed'), 2**40, 'meta.seed'),
    (('message_hub',), [1], 'message_hub must be a dict'),
    (('message_hub', 'log_scalars'), 3, 'message_hub.log_scalars must be a dict'),
    (('message_hub', 'log_scalars', 'train/loss', 'values'), 3, 'log_scalars.train/loss'),
    (('message_hub', 'log_scalars', 'train/loss', 'counts'), torch.ones(1), 'log_scalars.train/'),
    (('message_hub', 'log_scalars', 'train/loss', 'max_length'), None, 'log_scalars.train/loss'),
    (('message_hub', 'runtime_info'), None, 'message_hub.runtime_info must be a dict'),
    (('message_hub', 'runtime_info', 'epoch_begun'), 3, 'runtime_info.epoch_begun'),
    (('message_hub', 'runtime_info', 'epoch_begun', 'iter'), 'x', 'runtime_info.epoch_begun'),
    (('message_hub', 'runtime_info', 'epoch_validated'), [], 'runtime_info.epoch_validated'),
    (('message_hub', 'runtime_info', 'last_ckpt'), 7, 'runtime_info.last_ckpt'),
    (('message_hub', 'runtime_info', 'keep_ckpt_ids'), 7, 'runtime_info.keep_ckpt_ids'),
    (('message_hub', 'resumed_keys'), 'x', 'message_hub.resumed_keys must be a dict'),
    (('optimizer',), [], 'optimizer must be a dict'),
    (('optimizer', 'state'), 3, 'optimizer.state must be a dict'),
    (('optimizer', 'state', 0), 3, 'optimizer.state[0]'),
    (('optimizer', 'state', 0, 'exp_avg'), torch.ones(2), 'optimizer.state[0].exp_avg'),
    (('optimizer', 'state', 0, 'step'), 'x', 'optimizer.state[0].step'),
    (('optimizer', 'param_groups'), {}, 'optimizer.param_groups must be a list'),
    (('optimizer', 'param_groups', 0), 3, 'optimizer.param_groups[0] must be a dict'),
    (('optimizer', 'param_groups', 0, 'params'), 3, 'optimizer.param_groups[0].params'),
    (('optimizer', 'param_groups', 0, 'lr'), 'x', 'optimizer.param_groups[0].lr'),
    (('optimizer', 'param_groups', 0, 'betas'), 0.9, 'optimizer.param_groups[0].betas'),
    (('param_schedulers',), 3, 'param_schedulers must be a list'),
    (('param_schedulers', 0), 3, 'param_schedulers[0] must be a dict'),
    (('param_schedulers', 0, 'last_step'), 'x', 'param_schedulers[0].last_step'),
    (('param_schedulers', 0, 'base_values'), [], 'param_schedulers[0].base_values'),
    (('param_schedulers', 1, '_last_value'), None, 'param_schedulers[1]._last_value'),
    (('ema_state_dict',), 3, 'ema_state_dict'),
    (('ema_state_dict', 'steps'), torch.ones(3, 3), 'ema_state_dict'),
]


@pytest.fixture
def first(train, tmp_path):
    """A run of one epoch with moving averages; returns its folder."""
    train(tmp_path / 'work', **{'train_cfg.max_epochs': 1})
    return tmp_path / 'work'


def changed(state: dict, entry: tuple, value: object) -> dict:
    state = copy.deepcopy(state)
    holder = state
    for key in entry[:-1]:
        holder = holder[key]
    holder[entry[-1]] = value
    return state


@pytest.mark.parametrize(
    'entries',
    [MALFORMED[::6], pytest.param(MALFORMED, marks=pytest.mark.slow)],
    ids=['some', 'all'],
)
def test_a_malformed_entry_is_named(train, first, entries):
    path = first / 'epoch_1.pth'
    state = torch.load(path)
    for entry, value, words in entries:
        torch.save(changed(state, entry, value), path)
        with pytest.raises(UserError) as caught:
            train(first, resume=True, load_from=str(path))
        line = str(caught.value)
        assert words in line
        assert f"'{path}'" in line
        assert '\n' not in line


def test_a_search_passes_over_a_state_that_cannot_be_compared(train, first):
    """The newest file is chosen by counters, of which one here is text."""
    state = torch.load(first / 'epoch_1.pth')
    torch.save(changed(state, ('meta', 'iter'), 'x'), first / 'epoch_2.pth')
    assert train(first, resume=True).epoch == 2
    assert 'passed over' in max(first.glob('*/*.log')).read_text()


@pytest.mark.slow
def test_states_with_any_entry_changed(train, first, tmp_path):
    """Training goes on, or ends with a line of this package."""
    path = first / 'epoch_1.pth'
    state = torch.load(path)
    state['state_dict'] = dict(state['state_dict'])
    parts = {key: state[key] for key in ('meta', 'message_hub', 'optimizer', 'param_schedulers')}
    outcomes = Counter()
    for number in range(40):
        name, mutated = mutate_tree(random.Random(number), parts)
        file = tmp_path / f'{number}.pth'
        torch.save({**state, **mutated} if isinstance(mutated, dict) else mutated, file)
        outcome = 'trained'
        try:
            train(tmp_path / f'work{number}', resume=True, load_from=str(file))
        except UserError as error:
            outcome = 'line' if '\n' not in str(error) else f'{number} ({name}): {error}'
        except Exception as error:
            outcome = f'{number} ({name}): {error!r}'
        outcomes[outcome] += 1
    assert {*outcomes} == {'trained', 'line'}


def test_weights_alone_are_no_training_state():
    assert not is_training_state({'state_dict': {}, 'meta': dict(epoch=1)})
    assert not is_training_state([1])
