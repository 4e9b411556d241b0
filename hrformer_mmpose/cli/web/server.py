"""Web server of the page: its socket, its application and its end."""

import contextlib
import errno
import ipaddress
import os
import signal
import socket
import sys
import types
from collections.abc import Iterator

from ...errors import UserError
from .arguments import Address, Limits
from .failures import print_exception
from .guard import Guard
from .storage import Storage

PATIENCE = 2  # seconds that open connections get at the end


def listen(address: Address) -> socket.socket:
    """Return a socket that is bound to an address.

    Raises:
        UserError: the port is in use, or the host is none of this machine.
    """
    host, port = address.host, address.port
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        if os.name != 'nt':  # where it would let two programs share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen()
    except (socket.gaierror, UnicodeError) as error:
        raise UserError(f"--host '{host}' is not known: give 127.0.0.1 or 0.0.0.0") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            line = f'port {port} is in use: choose another by --port, or 0 for a free one'
        elif error.errno == errno.EADDRNOTAVAIL:
            line = f"--host '{host}' is no interface of this machine: give 127.0.0.1 or 0.0.0.0"
        else:
            line = f'nothing can listen on {host}, port {port}: {error.strerror or error}'
        raise UserError(line) from error
    return listener


def is_local(listener: socket.socket) -> bool:
    """Return whether only this machine reaches a socket."""
    return ipaddress.ip_address(listener.getsockname()[0].partition('%')[0]).is_loopback


def warning(listener: socket.socket) -> str:
    """Return the line for a page that other machines reach."""
    host, port = listener.getsockname()[:2]
    return (
        f'warning: the page listens on {host}, port {port}: everyone who reaches this machine '
        'can use it, without a password and without encryption'
    )


def page_url(listener: socket.socket) -> str:
    """Return the address of the page on this machine."""
    host, port = listener.getsockname()[:2]
    host = {'0.0.0.0': '127.0.0.1', '::': '[::1]'}.get(host, f'[{host}]' if ':' in host else host)
    return f'http://{host}:{port}'


def quiet_environment(storage: Storage) -> None:
    """Turn off what Gradio and its libraries send, and move its files to the storage.

    Must be called before Gradio is imported.
    """
    os.environ |= dict(
        GRADIO_TEMP_DIR=str(storage.uploads),
        GRADIO_ANALYTICS_ENABLED='False',
        GRADIO_RUN_HISTORY='False',
        HF_HUB_DISABLE_TELEMETRY='1',
        HF_HUB_OFFLINE='1',
    )
    if constants := sys.modules.get('huggingface_hub.constants'):  # imported for a download
        constants.HF_HUB_DISABLE_TELEMETRY = constants.HF_HUB_OFFLINE = True


def application(page, storage: Storage, limits: Limits) -> Guard:
    """Return the ASGI application of a page (`page.build`)."""
    import fastapi
    import gradio

    from .page import CSS, HEAD, theme

    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    gradio.mount_gradio_app(
        app,
        page,
        '/',
        allowed_paths=[str(storage.root / 'sessions')],
        max_file_size=limits.megabytes * 2**20,
        show_error=True,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        theme=theme(),
        css_paths=[CSS],
        head=HEAD,
    )
    print_one_line()
    return Guard(app, storage.uploads)


def print_one_line() -> None:
    """Make Gradio print a line, not a traceback, for requests that no page of ours sends."""
    from gradio import queueing, routes

    for module in (queueing, routes):
        module.traceback = types.SimpleNamespace(print_exc=print_exception)


def server(app: Guard):
    """Return a uvicorn server, to be run with a socket."""
    import uvicorn

    config = uvicorn.Config(
        app,
        log_level='critical',
        timeout_graceful_shutdown=PATIENCE,
        lifespan='on',
        server_header=False,
    )
    return uvicorn.Server(config)


@contextlib.contextmanager
def ended_as_by_ctrl_c() -> Iterator[None]:
    """Make a termination and a closed terminal raise KeyboardInterrupt, so that files are deleted.

    uvicorn repeats the signal that ended it; by default that would end the process at once.
    """
    names = [name for name in ('SIGTERM', 'SIGHUP') if hasattr(signal, name)]
    before = {getattr(signal, name): signal.getsignal(getattr(signal, name)) for name in names}
    before = {number: last for number, last in before.items() if last is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, last in before.items():
            signal.signal(number, last)


def serve(app: Guard, listener: socket.socket) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again at its end
        server(app).run(sockets=[listener])
    print('ended: uploads and results are deleted', file=sys.stderr)
