"""Scale the pictures of the worked example in own_data.md: python docs/draw_own_data.py FOLDER.

FOLDER is where its commands were run. Writes own_data_sheet.jpg, own_data_pose.jpg and
own_data_worst.jpg beside this file.
"""

import sys
from pathlib import Path

import cv2
import numpy as np

DOCS = Path(__file__).parent
QUALITY = 70  # of JPEG
PICTURES = ('000000500035.jpg', '000000500074.jpg')


def write(name: str, picture: np.ndarray, width: int) -> None:
    """Write a picture at a width in pixels, beside this file."""
    size = width, round(picture.shape[0] * width / picture.shape[1])
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(DOCS / name), small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


def main(folder: Path) -> None:
    """Write the three pictures."""
    write('own_data_sheet.jpg', cv2.imread(str(folder / 'arms/sheet.jpg')), 640)
    drawn = [cv2.imread(str(folder / 'poses/pictures' / name)) for name in PICTURES]
    height = max(picture.shape[0] for picture in drawn)
    drawn = [cv2.resize(p, (round(p.shape[1] * height / p.shape[0]), height)) for p in drawn]
    write('own_data_pose.jpg', np.hstack(drawn), 640)
    worst = sorted(folder.glob('work_dirs/arms/*/badcase/worst.png'))[-1]
    write('own_data_worst.jpg', cv2.imread(str(worst))[: 2 * 252], 640)


if __name__ == '__main__':
    main(Path(sys.argv[1]))
