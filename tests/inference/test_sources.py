"""Images found in folders and globs."""

import os
from pathlib import Path

import pytest

from hrformer_mmpose.errors import UserError
from hrformer_mmpose.inference import sources
from hrformer_mmpose.inference.sources import collect


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """data/ with images in two folders, a video, and what is to be passed over."""
    for name in (
        'b.jpg', 'a.PNG', 'sub/b.jpg', 'sub/deep/c.tiff', 'clip.MP4', 'notes.txt', '.hidden.jpg',
        '.cache/x.jpg', 'poses/pictures/b.jpg', 'poses/sheet.jpg', 'poses/videos/clip.mp4',
    ):  # fmt: skip
        path = tmp_path / 'data' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path / 'data'


IMAGES = ('data/a.PNG', 'data/b.jpg', 'data/sub/b.jpg', 'data/sub/deep/c.tiff')


def test_a_folder_is_searched_with_all_that_is_in_it_but_the_results(folder):
    found = collect(['data'], 'data/poses')
    assert found.images == IMAGES
    assert found.videos == ('data/clip.MP4',)
    assert found.camera is None
    assert 'data/poses/pictures/b.jpg' in collect(['data']).images
    assert collect(['data'], folder / 'poses') == found
    os.symlink('data/poses', 'link')
    assert collect(['data'], 'link') == found
    # A folder whose name only begins like that of the results is no result.
    (folder / 'poses2').mkdir()
    (folder / 'poses2/z.jpg').touch()
    assert collect(['data'], 'data/poses').images == (
        *IMAGES[:2], 'data/poses2/z.jpg', *IMAGES[2:]
    )  # fmt: skip


@pytest.mark.parametrize(
    ('arguments', 'images'),
    [
        (['data/b.jpg'], ('data/b.jpg',)),
        (['data/sub', 'data/b.jpg'], ('data/sub/b.jpg', 'data/sub/deep/c.tiff', 'data/b.jpg')),
        (['data/b.jpg', './data/b.jpg', 'data/sub/../b.jpg'], ('data/b.jpg',)),
        (['data/b.jpg', 'data'], ('data/b.jpg', 'data/a.PNG', *IMAGES[2:])),
        (['data/*.jpg'], ('data/b.jpg',)),
        (['data/?.*'], ('data/a.PNG', 'data/b.jpg')),
        (['data/**/*.jpg'], ('data/b.jpg', 'data/sub/b.jpg')),
        (['data/*'], IMAGES),
        (['data/s*'], IMAGES[2:]),
    ],
)
def test_in_the_order_given_and_none_twice(folder, arguments, images):
    assert collect(arguments, 'data/poses').images == images


def test_a_file_whose_name_looks_like_a_pattern(folder):
    (folder / '[1].jpg').touch()
    assert collect(['data/[1].jpg']).images == ('data/[1].jpg',)


def test_a_loop_of_links_is_followed_once_by_a_pattern(folder):
    whole = collect(['data']).images
    os.symlink('.', 'data/loop')
    assert set(collect(['data/**']).images) == set(whole)


def test_links_to_folders_are_followed_once(folder):
    os.symlink(folder.parent / 'data/sub', 'data/linked')
    os.symlink(folder.parent / 'data', 'data/sub/circle')
    far = folder.parent / 'far'
    far.mkdir()
    (far / 'd.jpg').touch()
    os.symlink(far, 'data/zoo')
    assert collect(['data'], 'data/poses').images == (
        'data/a.PNG', 'data/b.jpg', 'data/linked/b.jpg', 'data/linked/deep/c.tiff', 'data/zoo/d.jpg'
    )  # fmt: skip


@pytest.mark.parametrize(
    ('arguments', 'line'),
    [
        (['nowhere'], "'nowhere' does not exist"),
        (['data', 'nowhere/*.jpg'], r"'nowhere/\*\.jpg' does not exist"),
        (['data/notes.txt'], r"'data/notes\.txt' has the name of neither an image nor a video"),
        (['data/*.txt'], r"nothing that 'data/\*\.txt' matches is an image or a video"),
        (['empty'], "folder 'empty' holds no images and no videos"),
        (['data/poses'], "all that is given lies in --out 'data/poses': choose another --out"),
        (['camera', 'data'], "'camera': a camera is given alone"),
        (['camera:one'], "'camera:one': a camera is given alone, as camera or camera:NUMBER"),
        (['camera:²'], "'camera:²'"),
        (['camera:99999999999'], "'camera:99999999999': a camera is given alone"),
        (['camera:' + '9' * 5000], "'camera:9999"),
        (
            ['photos/a.heic'],
            r"'photos/a\.heic' is HEIC, which is not read: convert it to JPEG or PNG",
        ),
        (['photos'], r"folder 'photos' holds no images and no videos, only \.heic, \.svg"),
        (
            ['photos/*'],
            r"nothing that 'photos/\*' matches is an image or a video, only \.heic, \.svg",
        ),
    ],
)
def test_arguments_that_name_nothing(folder, arguments, line):
    Path('empty').mkdir()
    Path('photos').mkdir()
    Path('photos/a.heic').touch(), Path('photos/b.SVG').touch()
    with pytest.raises(UserError, match=line) as caught:
        collect(arguments, 'data/poses')
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('arguments', [['data'], ['data/*', 'data/sub/*']])
def test_files_that_are_skipped_are_counted_and_named(folder, arguments):
    for name in ('a.heic', 'sub/b.HEIC', 'sub/c.svg', 'README', 'poses/keypoints.json'):
        (folder / name).touch()
    found = collect(arguments, 'data/poses')
    assert found.images == IMAGES
    assert sorted(found.skipped) == [
        'data/README', 'data/a.heic', 'data/notes.txt', 'data/sub/b.HEIC', 'data/sub/c.svg'
    ]  # fmt: skip
    assert found.skipped_line().startswith(
        'skipped 5 files that are neither image nor video by name (2 .heic, 1 '
    )
    assert found.skipped_line().endswith(
        "), e.g. 'data/README'; 'data/a.heic' is HEIC, which is not read: convert it to JPEG or "
        'PNG, e.g. by: magick IN.heic OUT.jpg'
    )
    for number in range(8):
        (folder / f'x.a{number}').touch()
    assert ', 6 others), e.g. ' in collect(arguments, 'data/poses').skipped_line()
    assert collect(['data/b.jpg']).skipped_line() is None


@pytest.mark.parametrize(('text', 'number'), [('camera', 0), ('camera:', 0), ('camera:12', 12)])
def test_a_camera(text, number):
    assert collect([text]) == sources.Inputs((), (), number)


def test_a_folder_that_cannot_be_read(folder, monkeypatch):
    def scandir(path):
        raise PermissionError(13, 'Permission denied', str(path))

    monkeypatch.setattr(os, 'scandir', scandir)
    with pytest.raises(UserError, match="folder 'data' cannot be read: Permission denied"):
        collect(['data'])
