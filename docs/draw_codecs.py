"""Draws docs/codecs.png: what the codecs make of a keypoint between pixels, and what they find.

python docs/draw_codecs.py
"""

from pathlib import Path

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt
import numpy as np

import hrformer_mmpose  # noqa: F401  (makes MMPose importable)
from hrformer_mmpose.codecs import MSRAHeatmap, UDPHeatmap

SIZES = dict(input_size=(192, 256), heatmap_size=(48, 64))
CODECS = {
    'MSRA': MSRAHeatmap(sigma=2, **SIZES),
    'DARK': MSRAHeatmap(sigma=2, unbiased=True, **SIZES),
    'UDP': UDPHeatmap(sigma=2, **SIZES),
}
COLORS = {'MSRA': '#c8553d', 'DARK': '#3d7ea6', 'UDP': '#5a9367'}


def found(codec, keypoints: np.ndarray, noise: float = 0.0) -> np.ndarray:
    """Encoded and decoded keypoints, (K, 2), in the units they were given in."""
    heatmaps = codec.encode(keypoints[None].astype(np.float32))['heatmaps']
    heatmaps += np.random.default_rng(0).normal(0, noise, heatmaps.shape).astype(np.float32)
    decoded = codec.decode(heatmaps)[0][0]
    size = np.array(codec.input_size)
    return decoded * (size - 1) / size if isinstance(codec, UDPHeatmap) else decoded


def main() -> None:
    """Three heatmaps, and the error over the position between two pixels."""
    figure, axes = plt.subplots(1, 5, figsize=(14, 3.2), width_ratios=(1, 1, 1, 1.7, 1.7))
    keypoint = np.array([[97.4, 129.8]])
    for axis, (name, codec) in zip(axes, CODECS.items(), strict=False):
        heatmap = codec.encode(keypoint[None].astype(np.float32))['heatmaps'][0]
        axis.imshow(heatmap, cmap='magma', vmin=0, vmax=1)
        axis.plot(*(keypoint[0] / codec.scale_factor), 'w+', ms=11, mew=1.6, label='keypoint')
        axis.plot(
            *(found(codec, keypoint)[0] / codec.scale_factor), 'o', mfc='none', mec='#7fe0ff', ms=9,
            mew=1.6, label='decoded',
        )  # fmt: skip
        axis.set(xlim=(19.5, 28.5), ylim=(36.5, 27.5), xticks=[], yticks=[], title=name)
    axes[0].legend(fontsize=7, loc='lower left', facecolor='#222222', labelcolor='white')
    # 100 keypoints along x, one heatmap pixel (4 input pixels) apart in steps of 0.04.
    x = np.linspace(96, 104, 201)
    for axis, noise in zip(axes[3:], (0.0, 0.02), strict=True):
        keypoints = np.stack([x, np.full_like(x, 129.8)], axis=1)
        for name, codec in CODECS.items():
            error = (found(codec, keypoints, noise) - keypoints)[:, 0]
            axis.plot(
                x - 96, error, color=COLORS[name], label=name, lw=3 if name == 'DARK' else 1.3
            )
        title = 'error in x, exact heatmap' if not noise else 'error in x, noise of 0.02'
        axis.set(title=title, xlabel='keypoint, input pixels', ylabel='input pixels')
        axis.set_ylim(-3, 3)
        axis.grid(alpha=0.3)
    axes[3].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(Path(__file__).with_name('codecs.png'), dpi=110)


if __name__ == '__main__':
    main()
