"""Files of the Hugging Face Hub: `hf://OWNER/REPO[/FILE][@REVISION]`.

`huggingface_hub` downloads into its own cache, with the user's token if there is one. The content
is compared with the hash that the Hub states before the file is used. With a full commit hash as
revision a cached file is used without a network.
"""

import difflib
import hashlib
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ..errors import WeightsError

SCHEME = 'hf://'
WEIGHTS = 'model.safetensors'  # the default file
TIMEOUT = 10.0  # seconds without an answer
_SUFFIXES = ('.safetensors', '.pth', '.pt', '.bin', '.ckpt')
_COMMIT = re.compile(r'[0-9a-f]{40}')
_MAIN = 'main'
_CHUNK = 2**20


@dataclass(frozen=True)
class HubFile:
    """Parts of an address.

    Attributes:
        source: the address.
        repo: OWNER/REPO.
        file: path in the repository, '' if the address names none.
        revision: branch, tag or commit; 'main' if the address names none.
    """

    source: str
    repo: str
    file: str
    revision: str

    @property
    def is_pinned(self) -> bool:
        """Return whether the revision is a commit, which never changes."""
        return _COMMIT.fullmatch(self.revision) is not None


def parse(source: str) -> HubFile:
    """Split an address.

    Raises:
        WeightsError: it has another form.
    """
    path, _, revision = source.removeprefix(SCHEME).partition('@')
    owner, _, rest = path.partition('/')
    repo, _, file = rest.partition('/')
    parts = file.split('/') if file else []
    parts += revision.split('/') if '@' in source else []
    valid = all(re.fullmatch(r'[\w.-]+', part) for part in (owner, repo))
    if not valid or any(part in ('', '.', '..') for part in parts):
        raise WeightsError(f"'{source}' is not of the form hf://OWNER/REPO[/FILE][@REVISION]")
    return HubFile(source, f'{owner}/{repo}', file, revision or _MAIN)


def fetch(source: str) -> str:
    """Return the local path of a file of the Hub; download it if it is not cached.

    Args:
        source: `hf://OWNER/REPO[/FILE][@REVISION]`. Without FILE, the repository's
            `model.safetensors`, or its only file of weights.

    Raises:
        WeightsError: huggingface_hub is missing; there is no such repository, revision or file; the
            Hub does not answer and the file is not cached; its hash differs.
    """
    wanted = parse(source)
    hub = _package(source)
    file = wanted.file or _choose(hub, wanted)
    path = hub.try_to_load_from_cache(wanted.repo, file, revision=wanted.revision)
    is_cached = isinstance(path, str)
    expected = _hash_in_cache(path) if is_cached else ''
    if not (is_cached and wanted.is_pinned and expected):
        try:
            # One request: without a network, `hf_hub_download` would retry for half a minute.
            url = hub.hf_hub_url(wanted.repo, file, revision=wanted.revision)
            expected = hub.get_hf_file_metadata(url, timeout=TIMEOUT).etag or ''
        except Exception as error:  # of several HTTP libraries
            if not is_cached or _is_answer(hub, error):
                _explain(hub, wanted, file, error)
        else:
            newest = _download(hub, wanted, file)
            if newest != path and not wanted.is_pinned:
                commit = commit_of(newest)
                print(f"'{source}' is revision {commit}: @{commit} pins it", file=sys.stderr)
            path = newest
    if _matches(path, expected):
        return path
    path = _download(hub, wanted, file, force_download=True)  # the cached copy may be damaged
    if not _matches(path, expected):
        raise WeightsError(
            f"'{source}': the content of {file} has another hash than the Hub states "
            f'({expected[:8]}...): it was changed on its way or in the cache ({path})'
        )
    return path


def _package(source: str) -> Any:
    try:
        import huggingface_hub.errors
    except ImportError as error:
        raise WeightsError(
            f"'{source}' needs the package huggingface_hub: pip install 'hrformer-mmpose[hub]'"
        ) from error
    return huggingface_hub


def _download(hub: Any, wanted: HubFile, file: str, **options: Any) -> str:
    try:
        return hub.hf_hub_download(
            wanted.repo, file, revision=wanted.revision, etag_timeout=TIMEOUT, **options
        )
    except Exception as error:
        _explain(hub, wanted, file, error)


def _choose(hub: Any, wanted: HubFile) -> str:
    """Return the file of weights of a repository."""
    cached = hub.try_to_load_from_cache(wanted.repo, WEIGHTS, revision=wanted.revision)
    if wanted.is_pinned and isinstance(cached, str):
        return WEIGHTS
    try:
        names = _files(hub, wanted)
    except Exception as error:
        if _is_answer(hub, error):
            _explain(hub, wanted, WEIGHTS, error)
        return WEIGHTS  # it may be cached
    weights = [name for name in names if name.endswith(_SUFFIXES)]
    if WEIGHTS in weights or len(weights) == 1:
        return WEIGHTS if WEIGHTS in weights else weights[0]
    if not weights:
        held = ', '.join(names[:5]) or 'nothing'
        raise WeightsError(f"'{wanted.source}' holds no weights, only {held}")
    raise WeightsError(
        f"'{wanted.source}' holds {len(weights)} files of weights: name one, for example "
        f'{SCHEME}{wanted.repo}/{weights[0]} (also {", ".join(weights[1:4])})'
    )


def _files(hub: Any, wanted: HubFile) -> list[str]:
    info = hub.HfApi().model_info(wanted.repo, revision=wanted.revision, timeout=TIMEOUT)
    return [entry.rfilename for entry in info.siblings or []]


def _is_answer(hub: Any, error: Exception) -> bool:
    """Return whether the Hub answered that something does not exist or is not allowed."""
    errors = hub.errors
    return isinstance(
        error,
        errors.RepositoryNotFoundError | errors.RevisionNotFoundError | errors.EntryNotFoundError,
    )


def _explain(hub: Any, wanted: HubFile, file: str, error: Exception) -> NoReturn:
    """Raise the error of a user for one of huggingface_hub."""
    errors, source = hub.errors, wanted.source
    if isinstance(error, errors.GatedRepoError):
        line = f"'{source}' is gated: accept its terms on the Hub, then `hf auth login`"
    elif isinstance(error, errors.RepositoryNotFoundError):
        near = _near(wanted.repo, lambda: _repositories(hub, wanted))
        line = f"'{source}': the Hub has no repository {wanted.repo}, or it is private{near}"
    elif isinstance(error, errors.RevisionNotFoundError):
        near = _near(wanted.revision, lambda: _revisions(hub, wanted))
        line = f"'{source}': {wanted.repo} has no revision '{wanted.revision}'{near}"
    elif isinstance(error, errors.EntryNotFoundError) and not isinstance(
        error, errors.LocalEntryNotFoundError
    ):
        near = _near(file, lambda: _files(hub, wanted))
        line = f"'{source}': {wanted.repo} has no file '{file}'{near}"
    else:
        cause = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
        line = (
            f"cannot fetch '{source}', and the file is not cached: {cause[0][:200]} (check the "
            'network; HF_ENDPOINT names a mirror)'
        )
    raise WeightsError(line) from error


def _near(name: str, list_names: Any) -> str:
    """Describe the names nearest to one that does not exist; '' if they cannot be listed."""
    try:
        names = list_names()
    except Exception:  # the message without them is enough
        return ''
    near = difflib.get_close_matches(name, names, 3, 0.3) or names[:3]
    return f'; near ones: {", ".join(near)}' if near else ''


def _repositories(hub: Any, wanted: HubFile) -> list[str]:
    owner, _, repo = wanted.repo.partition('/')
    api = hub.HfApi()
    listed = [*api.list_models(author=owner, limit=100)]
    return [model.id for model in listed or api.list_models(search=repo, limit=20)]


def _revisions(hub: Any, wanted: HubFile) -> list[str]:
    refs = hub.HfApi().list_repo_refs(wanted.repo)
    return [ref.name for ref in (*refs.branches, *refs.tags)]


def commit_of(path: str | Path) -> str:
    """Return the commit of a cached file: .../snapshots/COMMIT/FILE."""
    parts = Path(path).parts
    return parts[len(parts) - parts[::-1].index('snapshots')]


def _hash_in_cache(path: str) -> str:
    """Return the hash under which the cache stores a content, '' in a cache without links.

    SHA-256 of a large file, Git's SHA-1 of a small one.
    """
    name = os.path.basename(os.path.realpath(path))
    return name if re.fullmatch(r'[0-9a-f]{40}|[0-9a-f]{64}', name) else ''


def _matches(path: str, expected: str) -> bool:
    digest = hashlib.sha256()
    if len(expected) == 40:
        digest = hashlib.sha1(b'blob %d\0' % os.path.getsize(path), usedforsecurity=False)
    with open(path, 'rb') as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest() == expected
