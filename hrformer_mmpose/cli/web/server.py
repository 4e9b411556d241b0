"""Web server of the page: its socket, what browsers may load, and its end."""

import contextlib
import errno
import ipaddress
import os
import socket
import sys
from urllib.parse import unquote

from ...errors import UserError
from .arguments import Address, Limits
from .storage import Storage

# Nothing from other machines, and no page of others around this one.
POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
HEADERS = [
    (b'content-security-policy', POLICY.encode()),
    (b'referrer-policy', b'no-referrer'),
    (b'x-content-type-options', b'nosniff'),
]
FILE = '/gradio_api/file='
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


class Guard:
    """ASGI application that adds `HEADERS` to each response, and fetches no other address.

    Gradio's route of files also fetches from other servers.

    Args:
        app: the application.
    """

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope: dict, receive, send) -> None:
        """Answer a request; the server calls this."""

        async def send_more(message: dict) -> None:
            if message['type'] == 'http.response.start':
                message = dict(message, headers=[*message.get('headers', ()), *HEADERS])
            await send(message)

        path = unquote(scope.get('path', ''))
        if path.startswith(FILE) and '://' in path:
            await send({'type': 'http.response.start', 'status': 403, 'headers': HEADERS})
            await send({'type': 'http.response.body', 'body': b'not allowed'})
            return
        await self.app(scope, receive, send_more)


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


def application(page, storage: Storage, limits: Limits) -> Guard:
    """Return the ASGI application of a page (`page.build`)."""
    import fastapi
    import gradio

    from .page import CSS, theme

    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    gradio.mount_gradio_app(
        app,
        page,
        '/',
        allowed_paths=[str(storage.root / 'sessions')],
        max_file_size=limits.megabytes * 1_000_000,
        show_error=True,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        theme=theme(),
        css_paths=[CSS],
    )
    return Guard(app)


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


def serve(app: Guard, listener: socket.socket) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again at its end
        server(app).run(sockets=[listener])
    print('ended: uploads and results are deleted', file=sys.stderr)
