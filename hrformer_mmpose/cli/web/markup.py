"""Pieces of HTML of the page."""

import base64
from collections.abc import Iterable
from html import escape
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np

PREVIEW = 960  # longer side in pixels of a frame that is shown while a video is processed


def note(text: str) -> str:
    """Return a line of information."""
    return f'<div class="line note" role="status">{escape(text)}</div>'


def problem(text: str) -> str:
    """Return a line of an error."""
    return f'<div class="line problem" role="alert">{escape(text)}</div>'


def report(text: str, problems: Iterable[str]) -> str:
    """Return a line of information, and one for each problem."""
    return note(text) + ''.join(map(problem, problems))


def progress(text: str, done: int, total: int | None) -> str:
    """Return a line with a bar, which moves to and fro if the total is unknown."""
    values = f' value="{min(done, total)}" max="{total}"' if total else ''
    return f'<div class="line note" role="status">{escape(text)}<progress{values}></progress></div>'


def title(model: str, limits: str) -> str:
    """Return the head of the page."""
    return (
        f'<h1>Human poses</h1><p>Network: {escape(model)}. {escape(limits)} Uploads and results '
        'are deleted when you close this tab.</p>'
    )


def url(path: Path, version: int) -> str:
    """Return the address of a file, relative to the page's.

    Args:
        path: of the file, in a folder that the page serves.
        version: another one makes the browser load the file again.
    """
    return f'gradio_api/file={quote(str(path))}?v={version}'


def downloads(files: Iterable[tuple[str, Path]], version: int) -> str:
    """Return links that download files.

    Args:
        files: text and path of each.
        version: see `url`.
    """
    links = ''.join(
        f'<a href="{url(path, version)}" download="{escape(path.name)}">{escape(text)}</a>'
        for text, path in files
    )
    return f'<div class="downloads">{links}</div>'


def frame(image: np.ndarray) -> str:
    """Return a picture (H, W, 3) BGR uint8 as HTML, scaled down."""
    return f'<div class="film"><img src="{data_url(image)}" alt="A frame"></div>'


def data_url(image: np.ndarray) -> str:
    """Return a picture (H, W, 3) BGR uint8 as the text of an address, scaled down."""
    scale = PREVIEW / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return f'data:image/jpeg;base64,{base64.b64encode(cv2.imencode(".jpg", image)[1]).decode()}'


def box_editor(text: str) -> str:
    """Return the content of a box editor (box_editor.js).

    Args:
        text: shown while there is no picture.
    """
    return (
        '<div class="box-editor"><img alt="The image with its poses" draggable="false">'
        f'<div class="boxes"></div>{empty(text)}</div>'
    )


def film(path: Path, version: int) -> str:
    """Return a player of a video."""
    return f'<div class="film"><video src="{url(path, version)}" controls loop></video></div>'


def empty(text: str) -> str:
    """Return the place where a result will appear."""
    return f'<div class="empty">{escape(text)}</div>'
