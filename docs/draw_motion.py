"""Draw docs/motion.gif: identities and smoothed keypoints of generated people in motion.

The poses are the true ones, disturbed by a normal error of 3 % of each person's size.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from hrformer_mmpose.imaging.drawing import draw_poses
from hrformer_mmpose.imaging.poses import Pose
from hrformer_mmpose.inference.smoothing import Frame, LocalPolynomial, size_of
from hrformer_mmpose.inference.tracking import Tracker
from hrformer_mmpose.synthetic.motion import Film

OUT = Path(__file__).with_name('motion.gif')
FRAMES = 20
COLORS = 24


def main() -> None:
    """Track, smooth and draw a film, raw keypoints above smoothed ones."""
    film = Film(3, FRAMES, (420, 230), fps=12.5, seed=11)
    still = film.background(0)
    rng, tracker, frames = np.random.default_rng(0), Tracker(), []
    for number in range(FRAMES):
        poses = []
        for person in film.truth(number):
            pose = Pose(person.keypoints, np.ones(17), person.box.astype(np.float32))
            error = rng.normal(0, 0.03 * size_of(pose), (17, 2))
            poses.append(replace(pose, keypoints=(pose.keypoints + error).astype(np.float32)))
        numbers = tracker.update(poses, number / film.fps)
        poses = [replace(pose, track_id=n) for pose, n in zip(poses, numbers, strict=True)]
        frames.append(Frame(number, number / film.fps, poses))
    pictures = []
    for raw, smooth in zip(frames, LocalPolynomial(half_window=0.33)(frames), strict=True):
        image = film.image(raw.number)
        image[(image == still).all(2)] = 232  # a plain background makes a small file
        rows = [draw_poses(image, frame.poses, color_by='id') for frame in (raw, smooth)]
        picture = Image.fromarray(np.vstack(rows)[:, :, ::-1])
        pictures.append(picture.quantize(COLORS, dither=Image.Dither.NONE))
    pictures[0].save(
        OUT, save_all=True, append_images=pictures[1:], duration=round(1000 / film.fps), loop=0
    )
    print(f'{OUT}: {OUT.stat().st_size / 1024:.0f} KiB')


if __name__ == '__main__':
    main()
