"""The page in a headless Chromium, driven by Selenium, as a user would use it.

    apt-get install chromium chromium-driver; pip install selenium gradio

The folder named by HRFORMER_SCREENSHOTS receives pictures of the page.
"""

import json
import os
import re
import shutil
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip('gradio')
pytest.importorskip('selenium')
pytest.importorskip('scipy')
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from hrformer_mmpose.cli.web.arguments import Limits
from tests.inference.helpers import scene

from .serving import serving
from .test_clips import COUNT, film, spots

BROWSER, DRIVER = shutil.which('chromium'), shutil.which('chromedriver')
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (BROWSER and DRIVER), reason='needs chromium and chromedriver'),
]
HOSTILE = "<img src=x onerror=document.title=1>&..;'$(touch x).jpg"
PEOPLE = (100, 75), (275, 200)
SIZE = (300, 400)
WAIT = 60


def person_boxes() -> list[list[float]]:
    """Two boxes of 38.4 x 51.2, off the middle of the people."""
    return scene(*PEOPLE, size=SIZE)[1][:, :4].astype(float).tolist()


def photo(path: Path) -> Path:
    cv2.imwrite(str(path), cv2.dilate(scene(*PEOPLE, size=SIZE)[0], np.ones((3, 3), np.uint8)))
    return path


@pytest.fixture
def page(make_model, network, tmp_path, monkeypatch, capfd):
    """A page without a detector; nothing may be printed on the terminal."""
    monkeypatch.setattr(os, 'environ', os.environ.copy())
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    with serving(make_model(), network, Limits(megabytes=1, seconds=8)) as page:
        capfd.readouterr()
        yield page
        assert 'Traceback' not in ''.join(capfd.readouterr())


@pytest.fixture
def browser(tmp_path):
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (
        'headless=new', 'no-sandbox', 'disable-gpu', 'disable-dev-shm-usage',
        'window-size=1280,900', 'use-fake-device-for-media-stream', 'use-fake-ui-for-media-stream',
    ):  # fmt: skip
        options.add_argument(f'--{flag}')
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL', 'performance': 'ALL'})
    options.add_experimental_option(
        'prefs', {'download.default_directory': str(tmp_path / 'downloads')}
    )
    with webdriver.Chrome(options, webdriver.ChromeService(DRIVER)) as browser:
        yield browser


class Tab:
    """A tab of the browser that shows one of the page's tabs."""

    def __init__(self, browser, url: str, name: str = 'Image'):
        self.browser = browser
        browser.get(url)
        self.prefix = 'image' if name == 'Image' else 'film'
        self.until(lambda: self.all('button[role=tab]'))
        next(tab for tab in self.all('button[role=tab]') if tab.text == name).click()
        self.until(lambda: self.all(f'#{self.prefix}-drop input[type=file]'))

    def until(self, condition, seconds: float = WAIT):
        return WebDriverWait(self.browser, seconds).until(lambda _: condition())

    def all(self, selector: str) -> list:
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str):
        return self.until(lambda: next(iter(self.all(selector)), None))

    def text(self, part: str) -> str:
        return self.browser.execute_script(
            'return document.getElementById(arguments[0])?.innerText ?? ""',
            f'{self.prefix}-{part}',
        )

    def wait_for(self, text: str, part: str = 'line') -> None:
        try:
            self.until(lambda: text in self.text(part))
        except Exception as error:
            raise AssertionError(f'{text!r} is not in {self.text(part)!r}') from error

    def drop(self, path: Path) -> None:
        self.one(f'#{self.prefix}-drop input[type=file]').send_keys(str(path))

    def press(self, text: str) -> None:
        button = next(b for b in self.all('button') if b.text == text and b.is_displayed())
        self.show(button)
        button.click()

    def show(self, element) -> None:
        self.browser.execute_script('arguments[0].scrollIntoView({block: "center"})', element)

    def draw(self, box: list[float], width: int) -> None:
        """Drag a box, in pixels of an image of a width."""
        image = self.one(f'#{self.prefix}-editor .box-editor img')
        self.show(image)
        left, top, shown = self.browser.execute_script(
            'const {left, top, width} = arguments[0].getBoundingClientRect();'
            'return [left, top, width]',
            image,
        )
        x0, y0, x1, y1 = (value * shown / width for value in box)
        actions = ActionChains(self.browser, duration=30)
        pointer = actions.w3c_actions.pointer_action
        pointer.move_to_location(round(left + x0), round(top + y0))
        pointer.pointer_down()
        pointer.move_to_location(round(left + x1), round(top + y1))
        pointer.pointer_up()
        actions.perform()

    def download(self, text: str, folder: Path) -> Path:
        """Press a link; return the file, which has the name of the link."""
        link = next(link for link in self.all(f'#{self.prefix}-links a') if link.text == text)
        path = folder / link.get_attribute('download')
        path.unlink(missing_ok=True)
        self.show(link)
        link.click()
        self.until(lambda: path.is_file())
        return path

    def screenshot(self, name: str) -> None:
        if folder := os.environ.get('HRFORMER_SCREENSHOTS'):
            self.browser.save_screenshot(str(Path(folder, f'{name}.png')))


def outside_requests(browser) -> set[str]:
    messages = [json.loads(e['message'])['message'] for e in browser.get_log('performance')]
    urls = {
        message['params']['request']['url']
        for message in messages
        if message['method'] == 'Network.requestWillBeSent'
    }
    return {url for url in urls if not re.match(r'(http://127\.0\.0\.1:|data:|blob:|chrome)', url)}


def set_threshold(tab: Tab, value: float) -> None:
    slider = tab.one('#image-threshold input[type=number]')
    tab.show(slider)
    tab.browser.execute_script(
        'const set = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set;'
        'set.call(arguments[0], arguments[1]);'
        'arguments[0].dispatchEvent(new Event("input", {bubbles: true}));'
        'arguments[0].dispatchEvent(new Event("change", {bubbles: true}));',
        slider,
        str(value),
    )


def test_an_image_from_drop_to_download(page, browser, tmp_path):
    tab, downloads = Tab(browser, page.url), tmp_path / 'downloads'
    tab.screenshot('image-empty')
    tab.drop(photo(tmp_path / 'two people.png'))
    tab.wait_for("'two people.png', 400 x 300 pixels: Drag a box around each person.")
    for number, box in enumerate(person_boxes(), start=1):
        tab.draw(box, SIZE[1])
        tab.wait_for('1 person' if number == 1 else '2 people')
    tab.screenshot('image-poses')
    calls = len(page.network.batches)
    entries = json.loads(tab.download('Poses (COCO JSON)', downloads).read_text())
    assert [entry['image_id'] for entry in entries] == [1, 1]
    for entry, spot, box in zip(entries, PEOPLE, person_boxes(), strict=True):
        assert np.abs(np.array(entry['keypoints'][:2]) - spot).max() < 3
        x, y, width, height = entry['bbox']
        np.testing.assert_allclose([x, y, x + width, y + height], box, atol=1.5)
    before = cv2.imread(str(tab.download('Drawn picture', downloads)))
    assert before.shape == (*SIZE, 3)
    source = tab.one('#image-editor img').get_attribute('src')
    set_threshold(tab, 1)
    tab.until(lambda: tab.one('#image-editor img').get_attribute('src') != source)
    after = cv2.imread(str(tab.download('Drawn picture', downloads)))
    assert not np.array_equal(before, after)
    assert len(page.network.batches) == calls
    tab.one('#image-editor .box button').click()
    tab.wait_for('1 person')
    tab.press('Whole image')
    tab.wait_for('1 person')
    tab.until(lambda: len(tab.all('#image-editor .box')) == 1)
    tab.press('Remove all')
    tab.wait_for('Drag a box around each person.')
    assert outside_requests(browser) == set()
    errors = [entry for entry in browser.get_log('browser') if entry['level'] == 'SEVERE']
    assert errors == []


def test_uploads_that_cannot_be_used(page, browser, tmp_path):
    tab = Tab(browser, page.url)
    (tmp_path / 'text.jpg').write_text('no image')
    tab.drop(tmp_path / 'text.jpg')
    tab.wait_for("Image 'text.jpg' is not an image that can be decoded")
    tab.screenshot('image-error')
    hostile = photo(tmp_path / HOSTILE)
    tab.drop(hostile)
    tab.wait_for(f"'{HOSTILE}', 400 x 300 pixels")
    assert browser.title == 'HRFormer'
    links = [link.get_attribute('download') for link in tab.all('#image-links a')]
    assert all(re.fullmatch(r'[\w-]+\.(jpg|json)', link) for link in links)
    assert all(path.name != 'x' for path in tmp_path.iterdir())
    (tmp_path / 'big.jpg').write_bytes(bytes(1_500_000))
    tab.drop(tmp_path / 'big.jpg')
    tab.until(lambda: 'maximum allowed size' in tab.one('body').text)
    tab.screenshot('image-too-big')
    tab = Tab(browser, page.url, 'Video')
    (tmp_path / 'text.mp4').write_text('no video')
    tab.drop(tmp_path / 'text.mp4')
    tab.wait_for("'text.mp4' is no video: give MP4, MOV")
    tab.drop(film(tmp_path / 'long.avi', COUNT, fps=1))
    tab.wait_for("'long.avi' is longer than the 8 seconds that this page takes")
    tab.screenshot('film-error')
    assert 'not playable' not in tab.one('body').text  # by the browser; the page can read AVI


def test_a_video_from_drop_to_download(page, browser, tmp_path):
    tab, downloads = Tab(browser, page.url, 'Video'), tmp_path / 'downloads'
    tab.drop(film(tmp_path / 'street.avi'))
    tab.wait_for("'street.avi', 160 x 120 pixels, 1.0 s")
    tab.press('Estimate poses')
    tab.wait_for('Draw a box around each person on the first frame', 'state')
    for box in scene(*spots(0))[1][:, :4].tolist():
        tab.draw(box, 160)
    tab.until(lambda: len(tab.all('#film-editor .box')) == 2)
    tab.press('Estimate poses')
    tab.wait_for('10 frames, 20 poses.', 'state')
    tab.screenshot('film-poses')
    calls = len(page.network.batches)
    rows = tab.download('Poses (JSON lines)', downloads).read_text().splitlines()
    for row, number in zip(map(json.loads, rows), range(COUNT), strict=True):
        for pose, spot in zip(row['poses'], spots(number), strict=True):
            assert np.abs(np.array(pose['keypoints']['nose'][:2]) - spot).max() <= 3
    for label in tab.all('label'):
        if label.text in ('One-Euro', 'Person'):
            tab.show(label)
            label.click()
    tab.press('Draw again')
    tab.until(lambda: '?v=3' in tab.one('#film-view video').get_attribute('src'))
    rows = tab.download('Poses (JSON lines)', downloads).read_text().splitlines()
    assert [pose['track_id'] for pose in json.loads(rows[-1])['poses']] == [1, 2]
    assert 'smoothed' in rows[-1]
    assert len(page.network.batches) == calls
    video = tab.one('#film-view video')
    played = 'return [arguments[0].readyState, arguments[0].videoWidth, arguments[0].duration]'
    pytest.importorskip('av')  # OpenCV's videos do not play in browsers
    tab.until(lambda: browser.execute_script(played, video)[0] > 0)
    assert browser.execute_script(played, video)[1:] == [160, pytest.approx(1, abs=0.11)]
    assert cv2.VideoCapture(str(tab.download('Drawn video', downloads))).isOpened()


def test_what_is_kept_goes_with_the_tab(page, browser, tmp_path):
    tab = Tab(browser, page.url)
    tab.drop(photo(tmp_path / 'a.png'))
    tab.wait_for('400 x 300 pixels')
    tab.press('Whole image')
    tab.wait_for('1 person')
    assert len(page.files()) > 3
    browser.get('about:blank')  # leaves the page
    deadline = time.monotonic() + WAIT
    while len(page.files()) > 1 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert [path.name for path in page.files()] == ['lock']


def test_the_camera(page, browser):
    """Chromium's fake camera shows a moving pattern: take a photo of it, then a video."""
    tab = Tab(browser, page.url)
    tab.one('#image-drop button[aria-label="Capture from camera"]').click()
    tab.one('#image-drop div[title="grant webcam access"] button').click()
    capture = tab.one('#image-drop button[aria-label="capture photo"]')
    time.sleep(1)  # the first picture is black
    capture.click()
    tab.wait_for('Drag a box around each person.')
    assert re.search(r'\d+ x \d+ pixels', tab.text('line'))
    tab.press('Whole image')
    tab.wait_for('1 person')
    tab = Tab(browser, page.url, 'Video')
    tab.one('#film-drop button[aria-label="Capture from camera"]').click()
    tab.one('#film-drop div[title="grant webcam access"] button').click()
    record = tab.one('#film-drop button[aria-label="start recording"]')
    time.sleep(1)
    record.click()
    time.sleep(4)  # Chromium encodes it in chunks; a chunk that is not ready at the end is lost
    tab.one('#film-drop button.capture-button').click()
    tab.wait_for("press 'Estimate poses'")
    next(label for label in tab.all('label') if 'One person' in label.text).click()
    tab.press('Estimate poses')
    tab.wait_for(' poses.', 'state')


def test_a_phone(page, browser, tmp_path):
    browser.execute_cdp_cmd(
        'Emulation.setDeviceMetricsOverride',
        dict(width=390, height=844, deviceScaleFactor=1, mobile=True),
    )
    tab = Tab(browser, page.url)
    tab.drop(photo(tmp_path / 'a.png'))
    tab.wait_for('400 x 300 pixels')
    tab.draw(person_boxes()[0], SIZE[1])
    tab.wait_for('1 person')
    tab.screenshot('phone')
    width = browser.execute_script('return document.documentElement.scrollWidth')
    assert width <= 390  # nothing is cut off
