"""The page, in Gradio."""

from pathlib import Path

import gradio as gr

from . import markup
from .arguments import Limits
from .film_tab import FilmTab
from .image_tab import ImageTab
from .model import Model
from .storage import Storage

HERE = Path(__file__).parent
CSS = HERE / 'style.css'
MAX_WAITING = 40  # actions that wait for their turn; more are refused
FONTS = ['system-ui', 'sans-serif']  # of the system: nothing is fetched
# Gradio reports uploads that the browser cannot play, such as AVI, as errors; the page reads them.
HEAD = """<script>
document.addEventListener('error', (event) => {
    if (event.target.closest?.('#film-drop')) {
        event.stopImmediatePropagation();
    }
}, true);
</script>"""


def theme() -> gr.themes.Base:
    """Return the page's theme."""
    return gr.themes.Default(
        primary_hue='orange', font=FONTS, font_mono=['ui-monospace', 'monospace']
    )


def build(model: Model, storage: Storage, limits: Limits) -> gr.Blocks:
    """Build the page.

    Args:
        model: network and detector.
        storage: of uploads and results.
        limits: of an upload.
    """
    bounds = f'Up to {limits.megabytes:,} MB, and {limits.seconds:g} seconds of video.'
    with gr.Blocks(title='HRFormer', analytics_enabled=False) as page:
        gr.HTML(markup.title(model.name, bounds), elem_id='title')
        with gr.Tab('Image', id='image'):
            ImageTab(model, storage)
        with gr.Tab('Video', id='video'):
            FilmTab(model, storage, limits)

        def leave(request: gr.Request) -> None:
            storage.end(request.session_hash)

        page.unload(leave)
    # One image and one video at a time, whatever the number of visitors: bounded memory.
    page.queue(max_size=MAX_WAITING, default_concurrency_limit=1, api_open=False)
    return page
