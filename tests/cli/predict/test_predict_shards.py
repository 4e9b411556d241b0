"""Shards, in any order, give what one run gives; each process of torchrun has its own."""

import itertools
from collections import Counter
from pathlib import Path

import pytest

from hrformer_mmpose.cli import predict

from .helpers import PHOTOS, by_name, names, photo, results


@pytest.mark.parametrize('order', list(itertools.permutations(range(3))))
def test_shards_in_any_order_give_what_one_run_gives(run, network, order):
    run('data', out='whole')
    for place, shard in enumerate(order):
        status, out = run('data', '--shard', f'{shard}/3')
        assert status == 0
        assert f'part {shard}/3: {2 if shard < 2 else 1} image' in out
        assert Path('out/keypoints.json').exists() == (place == 2)
        if place < 2:
            assert 'COCO results are written when all is done; parts with images left:' in out
    assert network.seen == 10
    assert results() == results('whole')
    assert Path('out/images.json').read_bytes() == Path('whole/images.json').read_bytes()
    assert Path('out/sheet.jpg').read_bytes() == Path('whole/sheet.jpg').read_bytes()


def test_torchrun_s_environment_names_the_shard(run, monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '2')
    for rank in '01':
        monkeypatch.setenv('RANK', rank)
        assert run('data')[0] == 0
    assert names('out/poses-0-of-2.jsonl') == sorted(PHOTOS)[::2]
    assert names('out/poses-1-of-2.jsonl') == sorted(PHOTOS)[1::2]
    assert len(results()) == 5
    monkeypatch.setenv('RANK', '2')
    assert run('data')[0].startswith('error: RANK/WORLD_SIZE of the environment are 2/2: give I/N')
    assert run('data', '--shard', '0/2')[0] == 0
    monkeypatch.delenv('WORLD_SIZE')
    assert run('data', out='alone')[0] == 0
    assert len(names('alone/poses.jsonl')) == 5


@pytest.mark.parametrize('order', [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_no_image_is_lost_where_a_folder_grows_between_shards(run, network, order):
    """New files shift the shares: what a shard had may be another's now."""
    grown = []
    for number, shard in enumerate(order):
        run('data', '--shard', f'{shard}/3')
        grown.append(photo(f'data/{("a0", "b/0", "zz")[number]}.png', 40))
    assert not Path('out/keypoints.json').exists()
    for shard in order:
        status, out = run('data', '--shard', f'{shard}/3')
        assert status == 0
    assert 'images are left' not in out
    assert sorted(by_name()) == sorted([*PHOTOS, *map(str, grown)])
    assert [len(found) for found in by_name().values()] == [1] * 8
    journals = [names(f'out/poses-{shard}-of-3.jsonl') for shard in range(3)]
    assert Counter(itertools.chain(*journals)) == Counter(by_name().keys())  # none done twice
    assert network.seen == 8


def test_a_replaced_image_is_done_again_whoever_has_done_it_before(run, network):
    for shard in '01':
        run('data', '--shard', f'{shard}/2')
    photo('data/0.png', 40)  # shifts the shares: what was part 0's is part 1's
    photo('data/a.jpg', 68, size=(70, 90))
    assert run('data', '--shard', '0/2')[0] == 0
    status, out = run('data', '--shard', '1/2')
    assert status == 0
    assert "'data/a.jpg' has changed since the last run" in out
    assert network.seen == 7
    (result,) = by_name()['data/a.jpg']
    assert abs(result['keypoints'][0] - 68) < 4
    # The journal of part 0, which still holds the old poses, is passed over from now on.
    assert run('data', '--shard', '0/2')[0] == 0
    assert by_name()['data/a.jpg'] == [result]
    assert network.seen == 7


@pytest.mark.parametrize(
    ('text', 'line'),
    [
        ('5/99999999', 'error: --shard 5/99999999: there can be 10,000 parts at most'),
        ('5/10001', 'error: --shard 5/10001: there can be 10,000 parts at most'),
        ('1/' + '9' * 5000, 'error: --shard 1/999'),
        ('-1/4', 'error: --shard -1/4: give I/N'),
        ('٣/٤', None),
    ],
)
def test_numbers_of_parts_are_bounded(run, network, monkeypatch, text, line):
    monkeypatch.setattr(predict.sources, 'collect', predict.sources.collect if not line else None)
    status, _ = run('data', f'--shard={text}')
    assert status == 0 if line is None else status.startswith(line)
    assert Path('out').exists() == (line is None)


def test_a_failure_that_another_shard_has_mended_does_not_count(run, network):
    whole = Path('data/a.jpg').read_bytes()
    Path('data/a.jpg').write_bytes(whole[:-9])
    assert run('data', '--shard', '0/2')[0] == 1
    Path('data/a.jpg').write_bytes(whole)
    photo('data/0.png', 40)  # now a.jpg belongs to part 1
    assert run('data', '--shard', '1/2')[0] == 0
    assert run('data', '--shard', '0/2')[0] == 0
    assert len(by_name()['data/a.jpg']) == 1
    assert len(results()) == 6
    Path('data/0.png').unlink()  # and now to part 0 again, which itself knows of the failure alone
    status, out = run('data', '--shard', '0/2')
    assert status == 0
    assert 'part 0/2: 3 images, 3 persons' in out
    assert len(by_name()['data/a.jpg']) == 1


def test_shards_of_other_settings_are_not_mixed(run, network):
    run('data', '--shard', '0/2')
    status, _ = run('data', '--shard', '1/2', '--threshold', '0.5')
    assert status == (
        "error: 'out/poses-0-of-2.jsonl' holds predictions made with threshold=0.3, now it is 0.5: "
        'choose another --out, or --force to begin anew'
    )
    # With --force each part begins anew, and results wait for all of them.
    status, out = run('data', '--shard', '1/2', '--threshold', '0.5', '--force')
    assert status == 0
    assert 'parts with images left: 0/2 (3)' in out
    assert not Path('out/keypoints.json').exists()
    run('data', '--shard', '0/2', '--threshold', '0.5', '--force')
    assert len(results()) == 5


def test_a_broken_image_counts_in_its_own_shard(run):
    Path('data/a.jpg').write_text('')
    status, out = run('data', '--shard', '0/2')
    assert status == 1
    assert 'part 0/2: 3 images, 2 persons' in out
    assert '1 problem; 1 of 3 files could not be used' in out
    status, out = run('data', '--shard', '1/2')
    assert status == 0
    assert len(results()) == 4


def test_each_process_of_torchrun_has_a_gpu_of_its_own(monkeypatch):
    import torch

    from hrformer_mmpose.inference import torch_network as inference

    given = []
    monkeypatch.setattr(
        inference, 'PoseEstimator', lambda *args, **options: given.append(options['device'])
    )
    flags = [
        'a.png',
        '--model',
        'hrformer_tiny_demo_112x84',
        '--checkpoint',
        'c.pth',
        '--boxes',
        'whole-image',
    ]
    for gpus, rank, device, expected in (
        (0, '1', None, None),
        (4, '0', None, 'cuda:0'),
        (4, '3', None, 'cuda:3'),
        (4, '3', 'cuda:1', 'cuda:1'),
        (4, '3', 'cpu', 'cpu'),
    ):
        monkeypatch.setattr(torch.cuda, 'is_available', lambda gpus=gpus: gpus > 0)
        monkeypatch.setattr(torch.cuda, 'device_count', lambda gpus=gpus: gpus)
        monkeypatch.setenv('LOCAL_RANK', rank)
        more = ['--device', device] if device else []
        predict.open_estimator(predict.read_options(predict.parser().parse_args([*flags, *more])))
        assert given[-1] == expected
