"""Limits on requests to the page's server, and on what its pages load."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

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
FILES = ('/gradio_api/file=', '/gradio_api/file/')
JOIN = '/gradio_api/queue/join'
# Routes of Gradio that the page does not use: further ways to call its functions, editing of the
# program by a language model, and recordings.
UNUSED = tuple(
    f'/gradio_api/{name}'
    for name in (
        'run',
        'api/',
        'call',
        'component_server',
        'vibe',
        'undo-vibe',
        'process_recording',
        'proxy=',
    )
)
MAX_BODY = 4_000_000  # bytes of a request that calls a function


class Guard:
    """ASGI application that adds `HEADERS` to each response, and refuses some requests.

    Gradio would fetch an address of another machine that is given as a file.

    Args:
        app: the application.
        uploads: the only folder whose files a request may name.
    """

    def __init__(self, app, uploads: Path):
        self.app, self.uploads = app, str(uploads)

    async def __call__(self, scope: dict, receive, send) -> None:
        """Answer a request; the server calls this."""

        async def send_more(message: dict) -> None:
            if message['type'] == 'http.response.start':
                message = dict(message, headers=[*message.get('headers', ()), *HEADERS])
            await send(message)

        path = unquote(scope.get('path', ''))
        allowed = not path.startswith(UNUSED) and not (path.startswith(FILES) and '://' in path)
        if allowed and path.startswith(JOIN):
            body = await _body(receive)
            allowed = body is not None and self._names_only_uploads(body)
            receive = _again(body, receive)
        if not allowed:
            await send_more({'type': 'http.response.start', 'status': 403, 'headers': []})
            await send_more({'type': 'http.response.body', 'body': b'not allowed'})
            return
        await self.app(scope, receive, send_more)

    def _names_only_uploads(self, body: bytes) -> bool:
        try:
            values = json.loads(body)
            return all(self._is_upload(path) for path in _paths(values))
        except (ValueError, RecursionError):
            return False

    def _is_upload(self, path) -> bool:
        if not isinstance(path, str) or '\0' in path:
            return False
        return os.path.dirname(os.path.dirname(os.path.normpath(path))) == self.uploads


async def _body(receive) -> bytes | None:
    """Return the body of a request; None if it is longer than `MAX_BODY`, or broken off."""
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message['type'] != 'http.request':
            return None
        parts.append(message.get('body', b''))
        size += len(parts[-1])
        if size > MAX_BODY:
            return None
        more = message.get('more_body', False)
    return b''.join(parts)


def _again(body: bytes | None, receive):
    """Return a function that gives a body that has been read, and then what follows."""
    messages = [{'type': 'http.request', 'body': body or b'', 'more_body': False}]

    async def receive_again() -> dict:
        return messages.pop() if messages else await receive()

    return receive_again


def _paths(value) -> Iterator:
    """Yield all values of the keys `path` in plain data."""
    if isinstance(value, dict):
        if 'path' in value:
            yield value['path']
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _paths(part)
