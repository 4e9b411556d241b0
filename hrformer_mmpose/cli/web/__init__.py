"""`hrformer web`: a page on this machine to try a network on images and videos.

Command line (`arguments`) -> socket and network, so that mistakes end the command before a page is
there -> temporary folder (`storage`) -> page (`page`, Gradio) -> server (`server`). The tabs of the
page call `pictures` and `clips`, which know no Gradio and use the pieces of `hrformer predict`.
"""

import argparse
import importlib.util
import sys

from .arguments import parser, read
from .model import Model
from .server import (
    application,
    ended_as_by_ctrl_c,
    is_local,
    listen,
    page_url,
    quiet_environment,
    serve,
    warning,
)
from .storage import Storage

__all__ = ['parser', 'run']


def run(args: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C."""
    options, address, limits = read(args)
    with ended_as_by_ctrl_c(), Storage() as storage, listen(address) as listener:
        if importlib.util.find_spec('gradio') is None:
            raise ImportError(
                "hrformer web needs the package gradio: pip install 'gradio>=6,<7' av scipy "
                "(the extra 'web')"
            )
        model = Model(options)  # may download weights, which the next line turns off
        quiet_environment(storage)
        from .page import build

        app = application(build(model, storage, limits), storage, limits)
        if not is_local(listener):
            print(warning(listener), file=sys.stderr)
        print(f'{page_url(listener)}  (Ctrl-C ends it and deletes all uploads and results)')
        serve(app, listener)
