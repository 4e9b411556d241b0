"""Division of a prediction into shards: settings, journals, finished files."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...errors import UserError
from ...inference.digest import add_file
from ...inference.pairing import WHOLE_IMAGE
from .arguments import Options
from .journal import ADVICE, Content, Stamp, read


def settings_of(options: Options) -> dict:
    """Return the settings that the predictions depend on, by name of flag."""
    is_name = options.boxes in ('hog', WHOLE_IMAGE)
    return dict(
        model=_fingerprint_of_model(options.model),
        checkpoint=options.checkpoint and _fingerprint_of_weights(options.checkpoint),
        boxes=options.boxes if is_name else fingerprint(options.boxes),
        annotations=options.annotations and fingerprint(options.annotations),
        box_threshold=options.box_threshold,
        precision=options.precision,
        flip=options.flip,
        backend=options.backend,
        pictures=options.pictures,
        threshold=options.threshold if options.pictures or options.smooth else None,
        **_settings_of_videos(options),
    )


def _settings_of_videos(options: Options) -> dict:
    """Return the settings for videos that are not default: older journals have none of them."""
    return dict(
        track=options.track or None,
        smooth=options.smooth,
        detect_every=options.detect_every if options.detect_every > 1 else None,
        color_by=options.color_by if options.color_by != 'side' else None,
    )


def is_pretrained(model: str) -> bool:
    """Return whether a model is a folder of `save_pretrained`, or a repository with one."""
    return model.startswith('hf://') or (Path(model) / 'config.json').is_file()


def _fingerprint_of_model(name: str) -> str:
    """Return a name with a hash; that of a folder's settings, which hold the weights' hash."""
    if not is_pretrained(name):
        return fingerprint(name)
    from ...inference import pretrained_folder  # needs PyTorch, exported networks do not

    path = str(pretrained_folder.find(name)[0])
    return fingerprint(path).replace(path, name)


def _fingerprint_of_weights(name: str) -> str:
    """Return a name with a hash, also where it may stand for other weights tomorrow."""
    if not name.startswith('hf://'):
        return fingerprint(name)
    from ...checkpoint import hub

    path = hub.fetch(name)
    return fingerprint(path).replace(path, name)


def fingerprint(name: str) -> str:
    """Return a file's name with a hash of its content; names of other things as they are.

    The size would not do: networks of one architecture have equal sizes.
    """
    path = Path(name.split(':', 1)[-1] if name.startswith(('onnx:', 'torchvision:')) else name)
    if not path.is_file():
        return name
    digest = hashlib.sha256()
    # OpenVINO stores the weights in a .bin file beside the .xml.
    weights = [path.with_suffix('.bin')] if path.suffix.lower() == '.xml' else []
    for part in [path, *filter(Path.is_file, weights)]:
        add_file(digest, part)
    return f'{name} (sha256 {digest.hexdigest()[:12]})'


def stamp(name: str) -> Stamp:
    """Return a file's size in bytes and modification time in ns, to recognise a replaced file."""
    try:
        status = os.stat(name)
    except OSError:  # deleted since it was listed
        return None
    return [status.st_size, status.st_mtime_ns]


def journal_name(shard: int, shards: int) -> str:
    """Return the file name of a shard's journal."""
    return 'poses.jsonl' if shards == 1 else f'poses-{shard}-of-{shards}.jsonl'


def other_journals(options: Options, settings: dict) -> list[Content]:
    """Read the journals of the other shards.

    Raises:
        UserError: a journal was written with other settings.
    """
    journals = []
    for number in range(options.num_shards):
        path = options.out / journal_name(number, options.num_shards)
        if number == options.shard or not path.is_file():
            continue
        content = read(path)
        if content.entries and (difference := content.difference(settings)):
            raise UserError(f"'{path}' holds predictions made with {difference}: {ADVICE}")
        journals.append(content)
    return journals


def entry_of(name: str, journals: Sequence[Content], stamp: Stamp = None) -> dict | None:
    """Return the entry of a file, preferably one that has not failed.

    Entries of a file that has changed since are ignored, see `Content.current`.
    """
    entries = [journal.current(name, stamp) for journal in journals]
    entries = [entry for entry in entries if entry is not None]
    return min(entries, key=lambda entry: bool(entry.get('failed')), default=None)


def check_paths(stamps: Mapping[str, Stamp], journals: Sequence[Content]) -> None:
    """Check that no name stood for another file in an earlier run, as in another working directory.

    A file that was moved, or is mounted elsewhere, keeps its stamp.

    Args:
        stamps: present stamp of each input.
        journals: journals of all shards; entries of earlier versions state no path.

    Raises:
        UserError: results of another file would be replaced.
    """
    for name, stamp in stamps.items():
        path = os.path.abspath(name)
        for entry in (journal.entries.get(name, {}) for journal in journals):
            other = entry.get('path', path)
            if other != path and stamp is not None and entry.get('file') != stamp:
                raise UserError(f"--out has results of '{other}' as those of '{name}': {ADVICE}")


def results_of(key: str, journals: Sequence[Content]) -> dict[str, str]:
    """Return the result files that inputs already have, by input.

    Args:
        key: key of the result in the entries.
        journals: journals of all shards.
    """
    entries = [item for journal in journals for item in journal.entries.items()]
    return {name: entry[key].partition('/')[2] for name, entry in entries if key in entry}
