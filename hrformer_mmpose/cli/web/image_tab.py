"""Tab of the page for images, in Gradio."""

import shutil
from collections.abc import Callable
from pathlib import Path

import gradio as gr

from . import markup
from .failures import sentence
from .model import Model
from .pictures import (
    Picture,
    describe,
    open_picture,
    with_boxes,
    with_detections,
    with_whole_image,
    write_results,
)
from .storage import Session, Storage, display_name

EMPTY = 'The picture and its poses appear here. Drag a box around a person to add one.'
FIRST = 'Drop an image, paste one, or use the camera.'
SCRIPT = Path(__file__).with_name('box_editor.js')


class ImageTab:
    """Tab for images: drop one, draw or detect boxes, see the poses, download them.

    Args:
        model: network and detector.
        storage: of uploads and results.
    """

    def __init__(self, model: Model, storage: Storage):
        self.model, self.storage = model, storage
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                self.drop = gr.Image(
                    label='Image',
                    sources=['upload', 'webcam', 'clipboard'],
                    webcam_options=gr.WebcamOptions(mirror=False),  # left stays left
                    type='filepath',
                    height=260,
                    elem_id='image-drop',
                    buttons=[],
                )
                self.line = gr.HTML(markup.note(FIRST), elem_id='image-line')
            with gr.Column(scale=2, min_width=340):
                self.editor = gr.HTML(
                    {},
                    html_template=markup.box_editor(EMPTY),
                    js_on_load=SCRIPT.read_text(encoding='utf-8'),
                    apply_default_css=False,
                    elem_id='image-editor',
                )
                with gr.Row():
                    detect = gr.Button(
                        'Detect people',
                        visible=model.detector is not None,
                        min_width=130,
                        size='md',
                    )
                    whole = gr.Button('Whole image', min_width=130, size='md')
                    clear = gr.Button('Remove all', min_width=130, size='md')
                self.threshold = gr.Slider(
                    0,
                    1,
                    model.options.threshold,
                    step=0.01,
                    label='Threshold',
                    info='Keypoints with a lower score are not drawn.',
                    elem_id='image-threshold',
                )
                self.links = gr.HTML('', elem_id='image-links')
        outputs = [self.drop, self.editor, self.line, self.links]
        drawn = dict(trigger_mode='always_last', show_progress='hidden')
        for event, action, given, how in (
            (self.drop.input, self._open, self.drop, {}),
            (self.editor.input, self._draw_boxes, self.editor, drawn),
            (detect.click, self._detect, None, {}),
            (whole.click, self._whole, None, {}),
            (clear.click, self._clear, None, {}),
            (self.threshold.input, self._redraw, None, drawn),
        ):
            event(
                self._guarded(action),
                [self.threshold] if given is None else [self.threshold, given],
                outputs,
                preprocess=False,
                api_visibility='private',
                concurrency_id='images',
                **(dict(show_progress='minimal', show_progress_on=self.line) | how),
            )

    def _guarded(self, action: Callable) -> Callable:
        """Return a listener that runs an action in its session and shows errors as a line."""

        def listener(threshold, value=None, request: gr.Request = None):
            session = self.storage.session(request.session_hash)
            try:
                with session.lock:
                    return self._show(session, action(session, value), threshold)
            except Exception as error:
                result = {self.line: markup.problem(sentence(error))}
                # A box that could not be used disappears.
                if (view := session.work.get('view')) is not None:
                    result[self.editor] = view
                return result | ({self.drop: None} if action == self._open else {})

        return listener

    def _open(self, session: Session, upload: dict | None) -> Picture | None:
        if not upload:
            return session.work.get('picture')
        name = display_name(str(upload.get('orig_name') or upload['path']))
        number = _count(session)
        path = session.folder / f'upload-{number}'
        self.storage.take(upload['path'], path)
        try:
            picture = open_picture(path, name, self.model)
        except BaseException:
            path.unlink()
            raise
        if (last := session.work.get('picture')) is not None:
            last.path.unlink(missing_ok=True)
        return picture

    def _draw_boxes(self, session: Session, value) -> Picture | None:
        boxes = value.get('boxes') if isinstance(value, dict) else None
        return _picture(session) and with_boxes(_picture(session), boxes, self.model)

    def _detect(self, session: Session, _) -> Picture | None:
        return _picture(session) and with_detections(_picture(session), self.model)

    def _whole(self, session: Session, _) -> Picture | None:
        return _picture(session) and with_whole_image(_picture(session), self.model)

    def _clear(self, session: Session, _) -> Picture | None:
        return _picture(session) and with_boxes(_picture(session), [], self.model)

    def _redraw(self, session: Session, _) -> Picture | None:
        return _picture(session)

    def _show(self, session: Session, picture: Picture | None, threshold) -> dict:
        """Write the results of a picture and return what the page shows."""
        if picture is None:
            return {self.line: markup.note(FIRST)}
        number = _count(session)
        folder = session.folder / f'picture-{number}'
        drawn, results = write_results(picture, folder, _threshold(threshold))
        # The browser may still be loading the one before.
        session.work.setdefault('folders', []).append(folder)
        while len(session.work['folders']) > 2:
            shutil.rmtree(session.work['folders'].pop(0), ignore_errors=True)
        H, W = picture.shape
        view = dict(src=markup.url(drawn, number), width=W, height=H, boxes=picture.boxes)
        session.work |= dict(picture=picture, view=view)
        files = [('Drawn picture', drawn), ('Poses (COCO JSON)', results)]
        return {
            self.drop: None,
            self.editor: view,
            self.line: markup.report(describe(picture, self.model), picture.problems),
            self.links: markup.downloads(files, number),
        }


def _picture(session: Session) -> Picture | None:
    return session.work.get('picture')


def _count(session: Session) -> int:
    session.work['count'] = session.work.get('count', 0) + 1
    return session.work['count']


def _threshold(value) -> float:
    return min(max(float(value), 0.0), 1.0) if isinstance(value, int | float) else 0.0
