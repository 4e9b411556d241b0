"""Drawn poses, looked at pixel by pixel, and files read back."""

import cv2
import numpy as np
import pytest

from hrformer_mmpose.errors import ConfigError, DataError
from hrformer_mmpose.imaging import drawing
from hrformer_mmpose.imaging.drawing import LEFT, MIDDLE, RIGHT, draw_poses, side_color
from hrformer_mmpose.imaging.images import write_image
from hrformer_mmpose.imaging.poses import Pose
from hrformer_mmpose.imaging.sheet import contact_sheet
from hrformer_mmpose.imaging.skeleton import Skeleton


def pose_of(shown: dict, box=(40, 20, 160, 190), score: float = 1.0) -> Pose:
    """Who has only the keypoints in `shown`: number to (x, y) or (x, y, score)."""
    keypoints, scores = np.full((17, 2), 100.0, np.float32), np.zeros(17, np.float32)
    for k, (x, y, *own) in shown.items():
        keypoints[k], scores[k] = (x, y), own[0] if own else score
    return Pose(keypoints, scores, np.array(box, np.float32))


def near(pixel, color, tolerance: int = 12) -> bool:
    return np.abs(pixel.astype(int) - color).max() <= tolerance


def changed(image: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    return (image != drawn).any(2)


@pytest.fixture(params=[0, 128, 255], ids=['black', 'grey', 'white'])
def image(request):
    return np.full((200, 200, 3), request.param, np.uint8)


def test_limbs_and_joints_are_where_the_keypoints_are_in_the_colour_of_their_side(image):
    # The person looks at us: the left side is on the right of the image.
    pose = pose_of({5: (150, 60), 6: (50, 60), 7: (150, 120), 8: (50, 120)})
    drawn = draw_poses(image, [pose], boxes=False)
    for x, y, color in (
        (150, 60, LEFT), (150, 90, LEFT), (150, 120, LEFT), (100, 60, MIDDLE),
        (50, 60, RIGHT), (50, 90, RIGHT), (50, 120, RIGHT),
    ):  # fmt: skip
        assert near(drawn[y, x], color), (x, y)
    touched = changed(image, drawn)
    assert not touched[70:, 60:140].any(), 'nothing but limbs and joints'
    assert not touched[:50].any()
    assert not touched[135:].any()


def test_lines_have_an_outline_that_reads_on_any_ground(image):
    drawn = draw_poses(image, [pose_of({5: (50, 60), 7: (150, 60)})], boxes=False)
    column = drawn[50:71, 100].astype(int)
    assert column.min(1).min() < 60, 'dark beside the bright line'
    assert near(column[10], LEFT)


def test_colours_follow_the_names_of_any_skeleton():
    names = ('tail', 'left_paw', 'right_paw')
    cat = Skeleton(names=names, links=((0, 1), (1, 2)), flip_indices=(0, 2, 1))
    assert side_color(cat, 0) == MIDDLE
    assert side_color(cat, 0, 1) == LEFT
    assert side_color(cat, 2) == RIGHT
    assert side_color(cat, 1, 2) == MIDDLE
    keypoints = np.array([[20, 20], [80, 20], [80, 80]], np.float32)
    pose = Pose(keypoints, np.ones(3, np.float32), np.array([0, 0, 99, 99.0]), skeleton=cat)
    drawn = draw_poses(np.zeros((100, 100, 3), np.uint8), [pose])
    assert near(drawn[20, 20], MIDDLE)
    assert near(drawn[20, 50], LEFT)
    assert near(drawn[80, 80], RIGHT)


def test_faces_are_found_in_the_names_of_any_set():
    """Thin lines leave a face visible; `rear` is no ear."""
    names = ('Nose', 'L_Eye', 'EarLeft', 'rear', 'left_rear', 'spear')
    assert [drawing._of_head(name) for name in names] == [True, True, True, False, False, False]


def test_what_is_below_the_threshold_or_not_finite_leaves_no_mark(image):
    pose = pose_of(
        {5: (150, 60), 6: (50, 60, 0.29), 7: (np.nan, 120), 8: (50, np.inf), 0: (100, 30, np.nan)}
    )
    alone = pose_of({5: (150, 60)})
    drawn = draw_poses(image, [pose], threshold=0.3, boxes=False)
    assert np.array_equal(drawn, draw_poses(image, [alone], boxes=False))
    assert changed(image, drawn)[60, 150]
    assert np.array_equal(draw_poses(image, [pose], threshold=1.1, boxes=False), image)


def test_the_threshold_itself_is_drawn_faintly():
    image = np.zeros((200, 200, 3), np.uint8)
    at = {
        score: draw_poses(image, [pose_of({5: (150, 60, score)})], 0.5, False)[60, 150].astype(int)
        for score in (0.5, 0.65, 0.8, 1.0)
    }
    assert near(at[0.5], np.multiply(LEFT, 0.4))
    assert at[0.5][2] < at[0.65][2] < at[0.8][2]
    assert near(at[0.8], LEFT)
    assert near(at[1.0], LEFT)


def test_the_given_image_is_left_as_it_is(image):
    before = image.copy()
    image.flags.writeable = False
    drawn = draw_poses(image, [pose_of({5: (150, 60), 6: (50, 60)})])
    assert np.array_equal(image, before)
    assert not np.shares_memory(image, drawn)
    assert drawn.flags.writeable


def test_no_persons_give_an_equal_copy(image):
    drawn = draw_poses(image, [])
    assert np.array_equal(drawn, image)
    assert drawn is not image


def test_a_mirrored_view_can_be_drawn_on():
    image = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    pose = pose_of({5: (150, 60), 6: (50, 60)})
    expected = draw_poses(np.ascontiguousarray(image[:, ::-1]), [pose])
    assert np.array_equal(draw_poses(image[:, ::-1], [pose]), expected)


@pytest.mark.parametrize('far', [1e4, -1e7, 3e38, -3e38])
def test_keypoints_far_outside_do_no_harm(image, far):
    pose = pose_of({5: (150, 60), 6: (far, 60), 7: (150, -far), 8: (far, far)})
    drawn = draw_poses(image, [pose])
    # The shoulders' line leaves the image on the side where the other shoulder is.
    assert near(drawn[60, 190 if far > 0 else 100], MIDDLE)
    assert near(drawn[60, 150], LEFT)


def test_who_is_outside_altogether_leaves_no_mark(image):
    shown = {k: (1000 + k, 20 * k) for k in range(17)}
    drawn = draw_poses(image, [pose_of(shown, (1000, 0, 1017, 320))])
    assert np.array_equal(drawn, image)


@pytest.mark.parametrize(
    'box',
    [(0, 0, 0, 0), (np.nan,) * 4, (150, 150, 50, 50), (-np.inf, 0, np.inf, 100)],
    ids=['empty', 'nan', 'swapped', 'infinite'],
)
def test_a_box_that_is_none_is_not_drawn(image, box):
    shown = {5: (150, 60), 6: (50, 60)}
    drawn = draw_poses(image, [pose_of(shown, box)])
    assert near(drawn[60, 100], MIDDLE)
    assert not changed(image, drawn)[80:].any()


def test_the_box_is_marked_at_its_corners_only(image):
    drawn = draw_poses(image, [pose_of({}, (40, 60, 160, 180))])
    touched = changed(image, drawn)
    for x, y in ((40, 60), (160, 60), (40, 180), (160, 180)):
        assert touched[y - 3 : y + 4, x - 3 : x + 4].any()
    assert not touched[100:140].any()
    assert not touched[:, 90:110].any()
    assert np.array_equal(draw_poses(image, [pose_of({})], boxes=False), image)


@pytest.mark.parametrize(
    'box',
    [(0, 0, 100, 150), (120, 0, 260, 150), (-80, -80, 90, 90), (-900, 150, 900, 900)],
    ids=['top left', 'top right', 'beyond the top left', 'bottom'],
)
def test_the_label_stays_within_the_image(box):
    image = np.zeros((200, 200, 3), np.uint8)
    framed = cv2.copyMakeBorder(image, 200, 200, 200, 200, cv2.BORDER_CONSTANT)
    # The same label elsewhere in a larger image tells how many of its bright pixels there are.
    person = pose_of({5: (100, 100)}, box)
    free = pose_of({5: (300, 300)}, (210, 280, 390, 390))
    label = labels_only(image, person)
    whole = labels_only(framed, free)
    assert label.any()
    height, width = np.ptp(np.argwhere(label), axis=0)
    free_height, free_width = np.ptp(np.argwhere(whole), axis=0)
    assert 6 <= height <= free_height + 2
    assert width / height == pytest.approx(free_width / free_height, rel=0.25), 'not cut off'


def labels_only(image: np.ndarray, pose: Pose) -> np.ndarray:
    """Where a picture differs from the same one without a label (as with one it has no room)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, '_draw_labels', lambda *_: None)
        without = draw_poses(image, [pose])
    return changed(without, draw_poses(image, [pose]))


def test_the_label_keeps_off_the_face():
    image = np.zeros((400, 400, 3), np.uint8)
    box = (100, 0, 300, 399)
    head = {0: (125, 20), 1: (130, 14), 2: (120, 14)}
    rest = {5: (180, 90), 6: (110, 90)}
    for shown, in_corner in ((rest, True), ({**head, **rest}, False)):
        label = labels_only(image, pose_of(shown, box))
        assert label.any()
        assert label[8:26, 115:136].any() == in_corner


def test_labels_of_neighbours_do_not_cover_each_other():
    image = np.zeros((300, 300, 3), np.uint8)
    persons = [pose_of({5: (150, 150)}, (60 + i, 80 + i, 240 + i, 280 + i)) for i in range(12)]
    both = draw_poses(image, persons)
    assert changed(image, both).any()
    places = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            drawing, 'draw_label', lambda image, text, place, height: places.append(place)
        )
        draw_poses(image, persons)
    assert len(places) >= 2
    for i, one in enumerate(places):
        assert (one >= 0).all()
        assert (one[2:] <= 300).all()
        for other in places[:i]:
            sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
            assert sides.clip(0).prod() <= 0.03 * (one[2:] - one[:2]).prod()


@pytest.mark.parametrize('size', [(80, 60), (640, 480), (3000, 2000)])
def test_lines_grow_with_image_and_person_within_bounds(size):
    width, height = size
    image = np.zeros((height, width, 3), np.uint8)
    thick = []
    for share in (0.2, 0.5, 0.9):
        side = share * height
        box = (width / 2, 0.02 * height, width / 2 + side / 2, 0.02 * height + side)
        x, y = width / 2, height / 2
        pose = pose_of({5: (x, y - side / 3), 7: (x, y + side / 3)}, box)
        drawn = draw_poses(image, [pose], boxes=False)
        thick.append(np.count_nonzero(changed(image, drawn)[round(y)]))
    assert thick == sorted(thick)
    diagonal = np.hypot(*size)
    assert 1 <= thick[0] <= max(4, diagonal / 250)
    assert max(2, diagonal / 400) <= thick[2] <= max(4, diagonal / 60)


@pytest.mark.parametrize(
    'image',
    [
        None,
        'a.jpg',
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
    ids=['none', 'path', 'grey', 'alpha', 'float', 'empty'],
)
def test_what_is_no_image_is_told_in_one_line(image):
    with pytest.raises(DataError, match=r'\(H, W, 3\), BGR uint8') as caught:
        draw_poses(image, [])
    assert '\n' not in str(caught.value)


def test_an_image_of_one_pixel_can_be_drawn_on():
    pose = pose_of({5: (0, 0), 6: (3, 3)}, (0, 0, 1, 1))
    assert draw_poses(np.zeros((1, 1, 3), np.uint8), [pose]).shape == (1, 1, 3)


def items(count: int):
    """Reddish images of alternating shape, one person's two shoulders in each, with its name."""
    for i in range(count):
        height, width = ((90, 160), (200, 100))[i % 2]
        image = np.full((height, width, 3), (10, 60 + i, 180), np.uint8)
        shown = {5: (0.75 * width, 0.5 * height), 6: (0.25 * width, 0.5 * height)}
        yield image, [pose_of(shown, (0, 0, width - 1, height - 1))], f'image_{i:03d}.jpg'


def test_the_sheet_has_all_images_with_poses_and_captions(tmp_path):
    path = tmp_path / 'sheet.png'
    sheet = contact_sheet(items(5), path, columns=2, tile=160, title='Five')
    assert np.array_equal(cv2.imread(str(path)), sheet)
    assert 2 * 160 < sheet.shape[1] < 2 * 160 + 60
    assert 2 * 160 + 90 < sheet.shape[0] < 2 * 160 + 90 + 200
    for i in range(5):
        rows, columns = np.nonzero((sheet == (10, 60 + i, 180)).all(2))
        size = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert size == ((90, 160) if i % 2 == 0 else (160, 80)), 'no letterbox in the image'
        # Drawn after scaling, where the shoulders are.
        y, x = rows.min() + size[0] // 2, columns.min() + size[1] // 2
        assert near(sheet[y, x], MIDDLE, 30)
        assert near(sheet[y, columns.min() + round(0.75 * size[1])], LEFT, 30)
        below = sheet[rows.max() + 8 :][:60, columns.min() : columns.max()]
        assert below.max() > 190, 'a caption'


@pytest.mark.parametrize('count', [1, 2, 7, 100])
def test_sheets_of_any_number_of_images_are_about_as_wide_as_high(count):
    tiny = ((np.zeros((6, 8, 3), np.uint8), [], 'x') for _ in range(count))
    sheet = contact_sheet(tiny, tile=64)
    assert 0.8 < sheet.shape[1] / sheet.shape[0] < 2.6


def test_captions_of_any_length_and_letters_stay_under_their_image():
    black = np.zeros((64, 64, 3), np.uint8)
    short = contact_sheet([(black, [], '')], tile=256)
    long = contact_sheet([(black, [], 'Überlanger_Name_' * 20 + '猫.jpg')], tile=256)
    assert long.shape == short.shape
    differ = np.argwhere(changed(short, long))
    assert differ.size, 'written'
    # The number of persons to the right of the caption is not written over.
    assert differ[:, 1].max() < 0.75 * short.shape[1]


def test_a_sheet_of_nothing_and_senseless_sizes_are_told():
    with pytest.raises(DataError, match='one image at least'):
        contact_sheet([])
    with pytest.raises(ConfigError, match='columns=0'):
        contact_sheet(items(1), columns=0)
    with pytest.raises(ConfigError, match='tile=3'):
        contact_sheet(items(1), tile=3)
    with pytest.raises(DataError, match='BGR uint8'):
        contact_sheet([(None, [], 'missing.jpg')])


def test_written_images_read_back_and_leave_nothing_else(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    write_image(tmp_path / 'a.png', image)
    write_image(str(tmp_path / 'ünïcode.PNG'), image)
    for name in ('a.png', 'ünïcode.PNG'):
        data = np.fromfile(tmp_path / name, np.uint8)
        assert np.array_equal(cv2.imdecode(data, cv2.IMREAD_COLOR), image)
    smooth = cv2.GaussianBlur(image, (0, 0), 5)
    write_image(tmp_path / 'a.jpg', smooth)
    assert np.abs(cv2.imread(str(tmp_path / 'a.jpg')).astype(int) - smooth).mean() < 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ['a.jpg', 'a.png', 'ünïcode.PNG']


@pytest.mark.parametrize('name', ['missing/a.png', 'a', 'a.txt', '.png', 'folder.png'])
def test_what_cannot_be_written_is_told_in_one_line(tmp_path, name):
    (tmp_path / 'folder.png').mkdir()
    with pytest.raises(DataError) as caught:
        write_image(tmp_path / name, np.zeros((4, 4, 3), np.uint8))
    assert str(tmp_path / name) in str(caught.value)
    assert '\n' not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ['folder.png'], 'no partial file is left'


def test_an_empty_image_is_told_in_one_line(tmp_path):
    with pytest.raises(DataError, match='cannot write') as caught:
        write_image(tmp_path / 'a.png', np.zeros((0, 4, 3), np.uint8))
    assert '\n' not in str(caught.value)


def test_a_pose_draws_itself():
    image = np.zeros((200, 200, 3), np.uint8)
    pose = pose_of({5: (150, 60), 6: (50, 60)})
    assert np.array_equal(pose.draw(image), draw_poses(image, [pose]))
