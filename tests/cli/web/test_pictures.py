"""Images of the page: boxes, thresholds, results; no browser and no Gradio."""

import json
import zlib

import cv2
import numpy as np
import pytest

from hrformer_mmpose.cli.web import pictures
from hrformer_mmpose.cli.web.pictures import (
    describe,
    open_picture,
    with_boxes,
    with_detections,
    with_whole_image,
    write_results,
)
from hrformer_mmpose.errors import DataError
from tests.inference.helpers import scene, where

SPOTS = (40, 30), (110, 80)


@pytest.fixture
def people(tmp_path):
    """Path of an image of two people, and their boxes."""
    image, boxes = scene(*SPOTS)
    path = tmp_path / 'upload-1'  # the page stores uploads without their extension
    path.write_bytes(cv2.imencode('.png', image)[1].tobytes())
    return path, boxes[:, :4].astype(float).round(1).tolist()


def test_drawn_boxes_give_poses_and_only_new_ones_cost(people, make_model, network):
    path, boxes = people
    model = make_model()
    picture = open_picture(path, 'a.png', model)
    assert picture.shape == (120, 160)
    assert describe(picture, model).endswith('160 x 120 pixels: Drag a box around each person.')
    picture = with_boxes(picture, boxes[:1], model)
    assert where(picture.poses) == [SPOTS[0]]
    picture = with_boxes(picture, boxes, model)
    assert where(picture.poses) == [*SPOTS]
    assert network.batches == [1, 1]
    assert picture.boxes == boxes
    picture = with_boxes(picture, boxes[1:], model)  # one is removed
    assert where(picture.poses) == [SPOTS[1]]
    assert network.batches == [1, 1]
    assert with_boxes(picture, [], model).poses == ()


def test_corners_come_in_any_order(people, make_model):
    path, boxes = people
    x0, y0, x1, y1 = boxes[0]
    model = make_model()
    picture = with_boxes(open_picture(path, 'a.png', model), [[x1, y0, x0, y1]], model)
    assert picture.boxes == boxes[:1]


def test_the_threshold_draws_again_without_the_network(people, make_model, network, tmp_path):
    path, boxes = people
    model = make_model()
    picture = with_boxes(open_picture(path, 'a.png', model), boxes, model)
    drawn = []
    for number, threshold in enumerate((0.3, 1.0, 0.3)):
        file, results = write_results(picture, tmp_path / str(number), threshold)
        drawn.append(cv2.imread(str(file)))
    assert network.batches == [2]
    assert np.array_equal(drawn[0], drawn[2])
    assert not np.array_equal(drawn[0], drawn[1])  # the second's score is 254 / 255
    entries = json.loads(results.read_text())
    assert [entry['keypoints'][:2] for entry in entries] == [[*spot] for spot in SPOTS]
    assert [entry['image_id'] for entry in entries] == [1, 1]
    x0, y0, x1, y1 = boxes[1]
    np.testing.assert_allclose(entries[1]['bbox'], [x0, y0, x1 - x0, y1 - y0], atol=1e-3)


def test_the_detector_runs_on_arrival_and_on_request(people, make_model, monkeypatch):
    path, boxes = people
    model = make_model('--boxes', 'hog')
    monkeypatch.setattr(
        model.detector, '_target', lambda image: np.array([[*box, 0.5] for box in boxes])
    )
    picture = open_picture(path, 'a.png', model)
    assert where(picture.poses) == [*SPOTS]
    assert [pose.box_score for pose in picture.poses] == [0.5, 0.5]
    picture = with_boxes(picture, [], model)
    assert len(with_detections(picture, model).poses) == 2
    monkeypatch.setattr(model.detector, '_target', lambda image: np.zeros((0, 5)))
    assert 'nobody is detected' in describe(open_picture(path, 'a.png', model), model)


def test_whole_image(people, make_model):
    path, _ = people
    picture = open_picture(path, 'a.png', make_model('--boxes', 'whole-image'))
    assert picture.boxes == [[0, 0, 160, 120]]
    model = make_model()
    assert with_whole_image(open_picture(path, 'a.png', model), model).boxes == picture.boxes
    with pytest.raises(DataError, match='no detector is loaded: start the page with --boxes'):
        with_detections(picture, model)


@pytest.mark.parametrize(
    'boxes',
    [None, 'x', {}, [[1, 2, 3]], [['a', 0, 1, 1]], [[float('nan'), 0, 1, 1]], [[0, 0, 1e30, 9]],
     [[0, 0, 5, 5]] * 101],
)  # fmt: skip
def test_boxes_that_no_page_sends(people, make_model, boxes):
    model = make_model()
    picture = open_picture(people[0], 'a.png', model)
    with pytest.raises(DataError, match=r'(up to 100 boxes|a box is four numbers)'):
        with_boxes(picture, boxes, model)


def test_a_box_outside_is_a_problem_that_names_the_image(people, make_model):
    path, boxes = people
    model = make_model()
    picture = with_boxes(open_picture(path, 'a.png', model), [boxes[0], [900, 9, 950, 90]], model)
    assert where(picture.poses) == [SPOTS[0]]
    (problem,) = picture.problems
    assert problem.startswith("box 1 of 'a.png' lies outside the image of 160x120")


@pytest.mark.parametrize(
    ('content', 'line'),
    [
        (b'not an image', "image 'a.jpg' is not an image that can be decoded"),
        (b'', "image 'a.jpg' is empty"),
        (b'GIF89a', "image 'a.jpg' is GIF: give it the extension .gif"),
        (b'\xff\xd8\xff\xe0' + bytes(50), "image 'a.jpg' is cut short"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>', "image 'a.jpg' is"),
    ],
)
def test_uploads_that_are_no_images(tmp_path, make_model, content, line):
    path = tmp_path / 'upload-1'
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        open_picture(path, 'a.jpg', make_model())
    assert str(error.value).startswith(line)
    assert str(tmp_path) not in str(error.value)


def test_a_small_file_with_many_pixels_is_refused_before_it_is_decoded(
    tmp_path, make_model, monkeypatch
):
    header = b'IHDR' + (9000).to_bytes(4, 'big') + (9000).to_bytes(4, 'big') + b'\x08\x02\0\0\0'
    chunk = len(header[4:]).to_bytes(4, 'big') + header + zlib.crc32(header).to_bytes(4, 'big')
    path = tmp_path / 'upload-1'
    path.write_bytes(b'\x89PNG\r\n\x1a\n' + chunk)
    monkeypatch.setattr(pictures, 'decode', None)
    with pytest.raises(DataError, match=r"'a\.png' has 9000 x 9000 pixels, more than the 64"):
        open_picture(path, 'a.png', make_model())


def test_a_format_whose_size_is_not_known_before_is_refused(tmp_path, make_model):
    path = tmp_path / 'upload-1'
    path.write_bytes(b'P4 12000 12000 ' + bytes(18_000_000))
    with pytest.raises(DataError, match=r"^'a\.pbm' is no JPEG, PNG, WebP, BMP or TIFF: save it"):
        open_picture(path, 'a.pbm', make_model())
