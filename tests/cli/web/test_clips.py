"""Videos of the page: bounds, two passes, going on after a stop; no browser and no Gradio."""

import json

import cv2
import numpy as np
import pytest

pytest.importorskip('scipy')
from hrformer_mmpose.cli.web import clips
from hrformer_mmpose.cli.web.arguments import Limits
from hrformer_mmpose.cli.web.choices import Choices
from hrformer_mmpose.cli.web.clips import Outcome, open_clip, process, summary
from hrformer_mmpose.errors import DataError
from hrformer_mmpose.inference.videos import open_video
from tests.inference.helpers import SPREAD, scene

COUNT = 10


def spots(number: int) -> list[tuple[int, int]]:
    return [(40 + 2 * (number % 10), 40), (110 - 2 * (number % 10), 80)]


def film(path, count: int = COUNT, fps: float = 10.0):
    """Two spots that pass each other; written as AVI, whatever the name."""
    avi = path.with_name('film.avi')
    writer = cv2.VideoWriter(str(avi), cv2.VideoWriter_fourcc(*'MJPG'), fps, (160, 120))
    for number in range(count):
        writer.write(cv2.dilate(scene(*spots(number))[0], np.ones((3, 3), np.uint8)))
    writer.release()
    return avi.replace(path)


@pytest.fixture
def clip(tmp_path):
    path = film(tmp_path / 'film-1')
    return open_clip(path, 'street.avi', tmp_path / 'results', Limits())


def choices(**values) -> Choices:
    defaults = dict(
        people='drawn',
        boxes=scene(*spots(0))[1][:, :4].astype(float).tolist(),
        detect_every=1,
        track=False,
        smooth=None,
        color_by='side',
        threshold=0.3,
    )
    return Choices.read(**defaults | values)


def rows(clip) -> list[dict]:
    return [json.loads(line) for line in clip.lines.read_text().splitlines()]


def test_drawn_boxes_follow_the_people(clip, make_model):
    outcome, model = Outcome(), make_model()
    steps = list(process(clip, choices(), model, Limits(), outcome))
    assert [(step.action, step.done) for step in steps] == [
        (action, number) for action in ('estimating', 'drawing') for number in range(1, COUNT + 1)
    ]
    assert steps[0].image.shape == (120, 160, 3)
    assert len(steps[0].poses) == 2
    assert summary(outcome) == '10 frames, 20 poses.'
    assert outcome.problems == []
    for row in rows(clip):
        assert row['time'] == pytest.approx(row['frame'] / 10)
        for pose, spot in zip(row['poses'], spots(row['frame']), strict=True):
            # The spot is 3 pixels wide, and JPEG blurs it.
            assert np.abs(np.array(pose['keypoints']['nose'][:2]) - spot).max() <= 2 + SPREAD
    assert len(list(open_video(str(clip.drawn)))) == COUNT
    assert (clip.lines.name, clip.drawn.name) == ('street-poses.jsonl', 'street-poses.mp4')


def test_another_drawing_does_not_estimate_again(clip, make_model, network):
    model = make_model()
    list(process(clip, choices(), model, Limits(), Outcome()))
    plain, drawn, calls = rows(clip), clip.drawn.read_bytes(), len(network.batches)
    again = choices(track=True, smooth='savgol', color_by='id', threshold=0.9)
    steps = list(process(clip, again, model, Limits(), Outcome()))
    assert len(network.batches) == calls
    assert {step.action for step in steps} == {'drawing'}
    assert clip.drawn.read_bytes() != drawn
    for row, before in zip(rows(clip), plain, strict=True):
        assert [pose.pop('track_id') for pose in row['poses']] == [1, 2]
        assert all('smoothed' in pose for pose in row['poses'])
        for pose in row['poses']:
            del pose['smoothed']
        assert row == before
    other = choices(people='whole')
    assert any(s.action == 'estimating' for s in process(clip, other, model, Limits(), Outcome()))


@pytest.mark.parametrize('color_by', ['side', 'id'])
def test_smoothing_and_colours_by_person_track(clip, make_model, color_by):
    smooth = None if color_by == 'id' else 'one-euro'
    asked = choices(smooth=smooth, color_by=color_by)
    assert asked.options(make_model().options, clip.folder).track


def test_a_pass_that_was_stopped_goes_on(clip, make_model, network):
    model = make_model('--batch-size', '1')
    straight = open_clip(clip.path, clip.name, clip.folder / 'straight', Limits())
    list(process(straight, choices(), model, Limits(), Outcome()))
    calls = len(network.batches)
    steps = process(clip, choices(), model, Limits(), Outcome())
    for _ in range(7):
        last = next(steps)
    steps.close()
    assert last.done == 7
    steps = process(clip, choices(), model, Limits(), Outcome())
    assert next(steps).done == 8
    list(steps)
    for row, other in zip(rows(clip), rows(straight), strict=True):
        points, expected = (
            [pose['keypoints']['nose'][:2] for pose in frame['poses']] for frame in (row, other)
        )
        # Raw lines are rounded: the boxes that go on from them differ by a thousandth of a pixel.
        np.testing.assert_allclose(points, expected, atol=1.1)
    assert len(network.batches) == 2 * calls  # no frame twice


def test_the_detector_of_the_command(clip, make_model, monkeypatch):
    model = make_model('--boxes', 'hog')
    calls = []

    def detect(image):
        calls.append(image)
        return scene(*spots(len(calls) - 1))[1]

    monkeypatch.setattr(model.detector, '_target', detect)
    list(process(clip, choices(people='detect'), model, Limits(), Outcome()))
    assert len(calls) == COUNT
    assert all(len(row['poses']) == 2 for row in rows(clip))
    with pytest.raises(DataError, match='no detector is loaded'):
        list(process(clip, choices(people='detect', detect_every=2), make_model(), Limits(), 0))


def test_bounds_of_length(tmp_path, clip, make_model, monkeypatch):
    with pytest.raises(DataError, match=r"'street.avi' is longer than the 0\.8 seconds that this"):
        open_clip(clip.path, clip.name, tmp_path / 'other', Limits(seconds=0.8))
    assert not (tmp_path / 'other').exists()
    fast = film(tmp_path / 'film-2', count=70, fps=120)
    with pytest.raises(DataError, match="'fast' has more than the 60 frames that this page takes"):
        open_clip(fast, 'fast', tmp_path / 'other', Limits(seconds=1))
    # A file that does not say how long it is.
    with monkeypatch.context() as patched:
        patched.setattr(clips, 'check_length', lambda *arguments: None)
        silent = open_clip(clip.path, clip.name, tmp_path / 'other', Limits(seconds=0.5))
    model = make_model('--boxes', 'whole-image')
    steps = process(silent, choices(people='whole'), model, Limits(seconds=0.5), Outcome())
    with pytest.raises(DataError, match=r"'street.avi' is longer than the 0\.5 seconds"):
        list(steps)
    assert not silent.lines.exists()


@pytest.mark.parametrize(
    'content',
    [
        b'just text',
        b'',
        b'#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n',
        b'ffconcat version 1.0\nfile /etc/passwd\n',
        b'<?xml version="1.0"?><MPD></MPD>',
        cv2.imencode('.png', np.zeros((9, 9, 3), np.uint8))[1].tobytes(),
        b'RIFF\0\0\0\0WAVEfmt ',
    ],
)
def test_uploads_that_are_no_videos(tmp_path, content):
    path = tmp_path / 'film-1'
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"'a\.mp4' is no video: give MP4, MOV, MKV, WebM, AVI"):
        open_clip(path, 'a.mp4', tmp_path / 'results', Limits())


def test_a_broken_video_names_the_upload(tmp_path):
    path = tmp_path / 'film-1'
    path.write_bytes(b'\0\0\0\x18ftypmp42' + bytes(100))
    with pytest.raises(DataError) as error:
        open_clip(path, 'a.mp4', tmp_path / 'results', Limits())
    assert "'a.mp4'" in str(error.value)
    assert str(tmp_path) not in str(error.value)


@pytest.mark.parametrize(
    ('values', 'line'),
    [
        (dict(people='else'), 'reload the page'),
        (dict(people=None), 'reload the page'),
        (dict(smooth='mean'), 'reload the page'),
        (dict(color_by=3), 'reload the page'),
        (dict(detect_every=0), 'detection: give a number of frames'),
        (dict(detect_every='x'), 'detection: give a number of frames'),
        (dict(threshold=None), 'threshold: give 0 to 1'),
        (dict(threshold=float('nan')), 'threshold: give 0 to 1'),
        (dict(boxes=[]), 'draw a box around each person on the first frame'),
        (dict(boxes=None), 'up to 100 boxes'),
    ],
)
def test_choices_that_cannot_be_used(values, line):
    with pytest.raises(DataError, match=line):
        choices(**values)
