"""Tab of the page for videos, in Gradio."""

import shutil
import time
from collections.abc import Iterator

import gradio as gr

from ...imaging.drawing import draw_poses
from . import markup
from .arguments import Limits
from .choices import DETECT, DRAWN, WHOLE, Choices
from .clips import Clip, Outcome, Step, describe, is_playable, open_clip, process, summary
from .failures import sentence
from .image_tab import SCRIPT
from .model import Model
from .storage import Session, Storage, display_name

EMPTY = 'The video and its poses appear here.'
EMPTY_EDITOR = 'The first frame appears here. Drag a box around each person.'
FIRST = 'Drop a video, or record one by the camera.'
READY = "Say where people are, and press 'Estimate poses'."
EVERY = 0.5  # seconds between two frames that are shown
PEOPLE = [
    ('Detect', DETECT),
    ('Boxes on the first frame', DRAWN),
    ('One person, edge to edge', WHOLE),
]
SMOOTH = [('None', 'none'), ('One-Euro', 'one-euro'), ('Savitzky-Golay', 'savgol')]
COLORS = [('Side of the body', 'side'), ('Person', 'id')]


class FilmTab:
    """Tab for videos: drop one, estimate, change threshold and smoothing, download.

    Args:
        model: network and detector.
        storage: of uploads and results.
        limits: of an upload.
    """

    def __init__(self, model: Model, storage: Storage, limits: Limits):
        self.model, self.storage, self.limits = model, storage, limits
        options, detects = model.options, model.detector is not None
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                self.drop = gr.Video(
                    label='Video',
                    sources=['upload', 'webcam'],
                    webcam_options=gr.WebcamOptions(mirror=False),  # left stays left
                    height=280,
                    elem_id='film-drop',
                    buttons=[],
                )
                self.line = gr.HTML(markup.note(FIRST), elem_id='film-line')
                start = DETECT if detects else WHOLE if model.is_whole_image else DRAWN
                people = gr.Radio(PEOPLE[not detects :], value=start, label='People')
                self.editor = gr.HTML(
                    {},
                    html_template=markup.box_editor(EMPTY_EDITOR),
                    js_on_load=SCRIPT.read_text(encoding='utf-8'),
                    apply_default_css=False,
                    visible=start == DRAWN,
                    elem_id='film-editor',
                )
                every = gr.Number(
                    options.detect_every,
                    label='Detect on each N-th frame',
                    info='In between, boxes follow the keypoints.',
                    precision=0,
                    minimum=1,
                    visible=detects,
                )
                track = gr.Checkbox(options.track, label='Track: a person keeps a number')
                smooth = gr.Radio(SMOOTH, value=options.smooth or 'none', label='Smoothing')
                color_by = gr.Radio(COLORS, value=options.color_by, label='Colours')
                threshold = gr.Slider(
                    0,
                    1,
                    options.threshold,
                    step=0.01,
                    label='Threshold',
                    info='Keypoints with a lower score are not drawn.',
                )
                with gr.Row():
                    self.start = gr.Button(
                        'Estimate poses', variant='primary', size='md', min_width=120
                    )
                    stop = gr.Button('Stop', size='md', min_width=80)
            with gr.Column(scale=2, min_width=340):
                self.state = gr.HTML('', elem_id='film-state')
                self.view = gr.HTML(markup.empty(EMPTY), elem_id='film-view')
                self.links = gr.HTML('', elem_id='film-links')
        common = dict(preprocess=False, api_visibility='private')
        quiet = dict(show_progress='minimal', show_progress_on=self.line)
        outputs = [self.drop, self.view, self.editor, self.line, self.state, self.links, self.start]
        gr.on(
            [self.drop.input, self.drop.stop_recording],
            self._open,
            self.drop,
            outputs,
            concurrency_id='clips',
            **common,
            **quiet,
        )
        self.start.click(
            self._run,
            [people, self.editor, every, track, smooth, color_by, threshold],
            outputs,
            concurrency_id='films',
            show_progress='hidden',
            **common,
        )
        people.input(
            lambda people: gr.HTML(visible=people == DRAWN),
            people,
            self.editor,
            queue=False,
            show_progress='hidden',
            **common,
        )
        stop.click(self._stop, None, None, queue=False, show_progress='hidden', **common)

    def _open(self, upload: dict | None, request: gr.Request) -> dict:
        if not upload:
            return {self.line: gr.skip()}
        session = self.storage.session(request.session_hash)
        try:
            with session.lock:
                return self._show(self._take(session, upload))
        except Exception as error:
            return {self.drop: None, self.line: markup.problem(sentence(error))}

    def _take(self, session: Session, upload: dict) -> Clip:
        """Check an upload and make it the video of the session."""
        number = session.work['films'] = session.work.get('films', 0) + 1
        name = display_name(str(upload.get('orig_name') or upload['path']))
        path = session.folder / f'film-{number}'
        self.storage.take(upload['path'], path)
        try:
            clip = open_clip(path, name, session.folder / f'results-{number}', self.limits)
        except BaseException:
            path.unlink()
            raise
        session.work['run'] = None  # ends a run on the video before
        if (last := session.work.get('clip')) is not None:
            last.path.unlink(missing_ok=True)
            shutil.rmtree(last.folder, ignore_errors=True)
        session.work['clip'] = clip
        return clip

    def _show(self, clip: Clip) -> dict:
        H, W = clip.first.shape[:2]
        return {
            self.drop: None,
            self.view: markup.frame(clip.first),
            self.editor: dict(src=markup.data_url(clip.first), width=W, height=H, boxes=[]),
            self.line: markup.note(f'{describe(clip)}. {READY}'),
            self.state: '',
            self.links: '',
            self.start: gr.Button('Estimate poses'),
        }

    def _stop(self, request: gr.Request) -> None:
        self.storage.session(request.session_hash).work['run'] = None

    def _run(
        self, people, editor, every, track, smooth, color_by, threshold, request: gr.Request
    ) -> Iterator[dict]:
        session = self.storage.session(request.session_hash)
        run = session.work['run'] = object()
        clip, outcome = session.work.get('clip'), Outcome()
        if clip is None:
            yield {self.state: markup.note(FIRST)}
            return
        try:
            smooth = None if smooth == 'none' else smooth
            boxes = editor.get('boxes') if isinstance(editor, dict) else None
            choices = Choices.read(people, boxes, every, track, smooth, color_by, threshold)
            start = last = time.monotonic()
            first = None
            for step in process(clip, choices, self.model, self.limits, outcome):
                first = first or step
                if session.work.get('run') is not run or not self.storage.touch(session):
                    if session.work.get('clip') is clip:
                        yield {self.state: markup.note(_stopped(step))}
                    return
                now = time.monotonic()
                if now - last >= EVERY:
                    last = now
                    yield self._progress(clip, step, first, now - start, choices.threshold)
            yield self._results(session, clip, outcome)
        except Exception as error:
            if session.work.get('run') is run:
                yield {self.state: markup.problem(sentence(error))}

    def _progress(self, clip: Clip, step: Step, first: Step, elapsed: float, threshold) -> dict:
        """Return what the page shows after a frame."""
        text = f'{step.action} {step.done}'.capitalize()
        if clip.frames and clip.frames >= step.done:
            text += f' of {clip.frames} frames'
            if step.action == first.action and step.done > first.done:
                left = elapsed / (step.done - first.done) * (clip.frames - step.done)
                text += f', {left:.0f} s left'
        shown = {self.state: markup.progress(text, step.done, clip.frames)}
        if step.image is not None:
            shown[self.view] = markup.frame(draw_poses(step.image, step.poses, threshold))
        return shown

    def _results(self, session: Session, clip: Clip, outcome: Outcome) -> dict:
        """Return what the page shows at the end."""
        number = session.work['films'] = session.work.get('films', 0) + 1
        problems, files = outcome.problems, [('Poses (JSON lines)', clip.lines)]
        view = markup.empty('Download the drawn video.')
        if not is_playable():
            problems = [*problems, 'Browsers do not play the drawn video: pip install av']
        if clip.drawn.is_file():
            files.insert(0, ('Drawn video', clip.drawn))
            if is_playable():
                view = markup.film(clip.drawn, number)
        return {
            self.view: view,
            self.state: markup.report(f'{describe(clip)}: {summary(outcome)}', problems),
            self.links: markup.downloads(files, number),
            self.start: gr.Button('Draw again'),
        }


def _stopped(step: Step) -> str:
    if step.action == 'drawing':
        return "Stopped while drawing. 'Draw again' starts over."
    return f"Stopped at frame {step.done}. 'Estimate poses' continues there."
