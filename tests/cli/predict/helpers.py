"""Images, the command as a user types it, and its results, read back."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np

from hrformer_mmpose.cli import main


def photo(path: Path | str, x: int, y: int = 30, size=(60, 80)) -> Path:
    """Black with one bright spot."""
    image = np.zeros((*size, 3), np.uint8)
    cv2.circle(image, (x, y), 2, (255, 255, 255), -1)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)
    return Path(path)


PHOTOS = ('data/a.png', 'data/a.jpg', 'data/b/a.jpg', 'data/b/c.bmp', 'data/d/e/f.png')


def coco_box(x0, image_id, score=0.9) -> dict:
    return dict(image_id=image_id, category_id=1, bbox=[x0, 5, 24, 48], score=score)


def hrformer(monkeypatch, capsys, *arguments: str) -> tuple[int | str, str]:
    """Exit status, or the line of an error, and what was printed."""
    monkeypatch.setattr(sys, 'argv', ['hrformer', *arguments])
    capsys.readouterr()
    try:
        main.main()
        status = 0
    except SystemExit as end:
        status = end.code or 0
    return status, capsys.readouterr().out


def lines(path: str = 'out/poses.jsonl') -> list[dict]:
    """Of JSON, without the journal's checksums."""
    rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
    return [{key: row[key] for key in row if key != 'crc32'} for row in rows]


def names(path: str = 'out/poses.jsonl') -> list[str]:
    return [line['name'] for line in lines(path) if 'name' in line]


def results(out: str = 'out') -> list[dict]:
    return json.loads(Path(out, 'keypoints.json').read_text())


def by_name(out: str = 'out') -> dict[str, list[dict]]:
    """Results of each image."""
    files = {
        row['id']: row['file_name'] for row in json.loads(Path(out, 'images.json').read_text())
    }
    found = {name: [] for name in files.values()}
    for result in results(out):
        found[files[result['image_id']]].append(result)
    return found
