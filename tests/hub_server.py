"""A server of this process that answers like the Hugging Face Hub."""

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse

COMMIT = '1f' * 20
OLD = '0e' * 20  # an earlier commit
SMALL = 1000  # bytes; larger files have their SHA-256 as ETag, as Git LFS gives it


class Handler(BaseHTTPRequestHandler):
    """Repository -> commit -> file -> bytes are in `server.repos`."""

    protocol_version = 'HTTP/1.1'

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        self.server.requests.append(f'{self.command} {self.path}')
        url = urlparse(self.path)
        parts = [unquote(part) for part in url.path.strip('/').split('/')]
        if parts[:2] == ['api', 'models']:
            self.api(parts[2:])
        elif parts[0] == 'api':
            self.fail('NotServed')
        else:
            self.file(parts)

    def api(self, parts: list[str]):
        if not parts:  # a search
            self.reply(json.dumps([dict(id=name) for name in self.server.repos]))
            return
        name, rest = '/'.join(parts[:2]), parts[2:]
        if name not in self.server.repos:
            self.fail('RepoNotFound')
        elif rest[:1] == ['refs']:
            refs = [dict(name='main', ref='refs/heads/main', targetCommit=COMMIT)]
            self.reply(json.dumps(dict(branches=refs, tags=[], converts=[])))
        elif (commit := self.commit(rest[1] if rest else 'main')) is None:
            self.fail('RevisionNotFound')
        else:
            files = [dict(rfilename=file) for file in self.server.repos[name][commit]]
            self.reply(json.dumps(dict(id=name, sha=commit, siblings=files)))

    def file(self, parts: list[str]):
        name, revision, file = '/'.join(parts[:2]), parts[3], '/'.join(parts[4:])
        if name not in self.server.repos:
            self.fail('RepoNotFound')
        elif (commit := self.commit(revision)) is None:
            self.fail('RevisionNotFound')
        elif (content := self.server.repos[name][commit].get(file)) is None:
            self.fail('EntryNotFound')
        else:
            git = hashlib.sha1(b'blob %d\0' % len(content) + content).hexdigest()
            etag = hashlib.sha256(content).hexdigest() if len(content) > SMALL else git
            sent = self.server.tampered.get(file, content)
            headers = {'X-Repo-Commit': commit, 'ETag': f'"{etag}"', 'X-Linked-Etag': f'"{etag}"'}
            self.reply(sent, headers | {'X-Linked-Size': str(len(sent))})

    def commit(self, revision: str) -> str | None:
        return {'main': COMMIT, 'v1': OLD}.get(revision, revision if len(revision) == 40 else None)

    def reply(self, content: str | bytes, headers: dict = {}, status: int = 200):
        content = content.encode() if isinstance(content, str) else content
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header('Content-Length', str(len(content)))
        self.end_headers()
        if self.command == 'GET':
            self.wfile.write(content)

    def fail(self, code: str):
        self.reply('', {'X-Error-Code': code, 'X-Error-Message': code}, 404)

    def log_message(self, *_):
        """Silent."""


def connect(monkeypatch, port: int = 9):
    """Point huggingface_hub to a port of this machine; nothing answers on the default one."""
    from huggingface_hub import constants

    url = f'http://127.0.0.1:{port}'
    template = url + '/{repo_id}/resolve/{revision}/{filename}'
    monkeypatch.setattr(constants, 'ENDPOINT', url)
    monkeypatch.setattr(constants, 'HUGGINGFACE_CO_URL_TEMPLATE', template)


@contextmanager
def serving(monkeypatch, cache):
    """Serve, and point huggingface_hub there; yields the server."""
    from huggingface_hub import constants

    with ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        server.repos, server.requests, server.tampered = {}, [], {}
        server.daemon_threads = True
        connect(monkeypatch, server.server_address[1])
        monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(cache))
        # Otherwise the library asks for more, and keeps the answer outside of this cache.
        monkeypatch.setattr(constants, 'HF_HUB_DISABLE_TELEMETRY', True)
        monkeypatch.setenv('no_proxy', '*')
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
