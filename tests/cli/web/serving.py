"""The page served in this process, and a visitor without a browser."""

import contextlib
import json
import secrets
import threading
import urllib.error
import urllib.request
from pathlib import Path

from hrformer_mmpose.cli.web import server
from hrformer_mmpose.cli.web.arguments import Address, Limits
from hrformer_mmpose.cli.web.storage import Storage


class Page:
    """The running page, and the files that it keeps."""

    def __init__(self, url: str, storage: Storage, network):
        self.url, self.storage, self.network = url, storage, network

    def files(self) -> list[Path]:
        return [path for path in self.storage.root.rglob('*') if path.is_file()]


@contextlib.contextmanager
def serving(model, network, limits: Limits):
    with Storage() as storage, server.listen(Address('127.0.0.1', 0)) as listener:
        server.quiet_environment(storage)
        from hrformer_mmpose.cli.web.page import build

        app = server.application(build(model, storage, limits), storage, limits)
        runner = server.server(app)
        thread = threading.Thread(target=runner.run, kwargs=dict(sockets=[listener]))
        thread.start()
        try:
            yield Page(server.page_url(listener), storage, network)
        finally:
            runner.should_exit = True
            thread.join()


class Visitor:
    """A visitor who talks to the page's addresses, as its JavaScript does."""

    def __init__(self, url: str):
        self.url, self.session = url, secrets.token_hex(5)
        config = json.loads(self.get('config')[2])
        self.components = {
            part['props'].get('elem_id'): part['id'] for part in config['components']
        }
        self.events = {tuple(t): d for d in config['dependencies'] for t in d['targets']}

    def get(self, path: str) -> tuple[int, dict, bytes]:
        return self._open(urllib.request.Request(f'{self.url}/{path}'))

    def _open(self, request) -> tuple[int, dict, bytes]:
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), error.read()

    def post(self, path: str, body, kind: str = 'application/json') -> tuple[int, dict, bytes]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self._open(
            urllib.request.Request(f'{self.url}/{path}', data, {'Content-Type': kind})
        )

    def upload(self, name: str, content: bytes) -> tuple[int, bytes]:
        head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
        body = head.encode() + content + b'\r\n--x--\r\n'
        status, _, answer = self.post('gradio_api/upload', body, 'multipart/form-data; boundary=x')
        return status, answer

    def act(self, component: str, event: str, *values) -> dict:
        """Run a listener; return what it sends for each component, by `elem_id`.

        Args:
            component: `elem_id`.
            event: name.
            values: of its inputs, in order.
        """
        listener = self.events[self.components[component], event]
        job = dict(data=[*values], fn_index=listener['id'], session_hash=self.session)
        status, _, answer = self.post('gradio_api/queue/join', job)
        if status != 200:
            return dict(status=status, error=answer.decode())
        stream = urllib.request.urlopen(
            f'{self.url}/gradio_api/queue/data?session_hash={self.session}', timeout=120
        )
        with stream:
            for line in stream:
                message = json.loads(line[5:]) if line.startswith(b'data:') else {}
                if message.get('msg') == 'process_completed':
                    break
        if not message['success']:
            return dict(error=message['output'].get('error'))
        ids = {number: name for name, number in self.components.items()}
        return dict(
            zip([ids[n] for n in listener['outputs']], message['output']['data'], strict=True)
        )

    def drop(self, name: str, content: bytes) -> dict:
        """Drop an image; return what the page shows."""
        _, answer = self.upload(name, content)
        (path,) = json.loads(answer)
        return self.act('image-drop', 'input', 0.3, file_data(path, name))


def file_data(path: str, name: str) -> dict:
    return dict(path=path, orig_name=name, meta={'_type': 'gradio.FileData'})
