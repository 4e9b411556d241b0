"""Draw network.png, windows.png and heatmaps.png: python docs/draw_network.py CHECKPOINT DATA.

CHECKPOINT is a network that `make demo` trained, DATA its generated people. The pictures show real
feature maps, attention weights and heatmaps of a held-out person.
"""

import json
import sys
from pathlib import Path

import cv2
import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes

from hrformer_mmpose.imaging import crops
from hrformer_mmpose.inference.pose_module import PoseModule
from hrformer_mmpose.inference.torch_network import TorchNetwork
from hrformer_mmpose.layers import LocalWindowSelfAttention
from hrformer_mmpose.layers.window import padding, window_partition

DOCS = Path(__file__).parent
CONFIG = 'hrformer_tiny_demo_112x84'
WINDOW = 7
BRANCHES = ('1/4', '1/8', '1/16', '1/32')
LINE = '#7c83c9'
BLOCK = 'stage4.0.branches.0.1.attn'  # whose attention is drawn
QUERIES = ('left_wrist', 'right_ankle', 'nose')


def person_crop(network: TorchNetwork, data: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the crop (h, w, 3) of the largest complete person, and its keypoints (17, 3)."""
    file = data / 'annotations/person_keypoints_val2017.json'
    content = json.loads(file.read_text())
    names = {image['id']: image['file_name'] for image in content['images']}
    ann = max(content['annotations'], key=lambda ann: (min(ann['keypoints'][2::3]), ann['area']))
    image = cv2.imread(str(data / 'val2017' / names[ann['image_id']]))
    x, y, w, h = ann['bbox']
    box = np.array([[x, y, x + w, y + h]], np.float32)
    centers, scales = crops.centers_and_scales(box, network.input_size)
    matrix = crops.crop_matrix(centers[0], scales[0], network.input_size, network.udp)
    keypoints = np.array(ann['keypoints'], np.float32).reshape(-1, 3)
    keypoints[:, :2] = keypoints[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    return crops.crop(image, matrix, network.input_size), keypoints


def run(network: TorchNetwork, crop: np.ndarray) -> tuple[dict, np.ndarray]:
    """Run the network.

    Returns:
        Maps (C, H, W) of each stage and branch and the input (C, H, W) of `BLOCK`, by name; summed
        heatmaps (H, W).
    """
    kept, backbone = {}, network.model.backbone
    network.model.eval()

    def keep(name):
        def hook(module, inputs, output):
            maps = output if isinstance(output, list | tuple) else [output]
            kept[name] = [x[0].float() for x in maps]

        return hook

    for number, module in enumerate((backbone.layer1, backbone.stage2, backbone.stage3)):
        module.register_forward_hook(keep(number))
    backbone.stage4[0].register_forward_hook(keep(3))  # the last module fuses the first map only
    attention = backbone.get_submodule(BLOCK)
    attention.register_forward_pre_hook(lambda module, inputs: kept.update(tokens=inputs[0]))
    with torch.no_grad():
        module = PoseModule(network.model, network.skeleton.flip_indices, dict(flip_test=False))
        encoded = module.encoded(module.preprocess(torch.from_numpy(crop[None])))
    return kept, encoded[0].clamp(min=0).max(0).values.numpy()


def colors(x: torch.Tensor) -> np.ndarray:
    """Map the three principal components of the channels of (C, H, W) to colours (H, W, 3)."""
    tokens = x.flatten(1).T
    tokens = tokens - tokens.mean(0)
    _, _, axes = torch.linalg.svd(tokens, full_matrices=False)
    values = tokens @ axes[:3].T
    low, high = values.quantile(0.02, dim=0), values.quantile(0.98, dim=0)
    values = ((values - low) / (high - low)).clamp(0, 1)
    return values.reshape(*x.shape[1:], 3).numpy()


def draw_windows(ax: Axes, size: tuple[int, int]) -> None:
    """Draw the borders of windows on a map of size (H, W)."""
    for length, lines in zip(size, (ax.axhline, ax.axvline), strict=True):
        for place in np.arange(-padding(length, WINDOW)[0], length, WINDOW):
            if place > 0:
                lines(place - 0.5, color='white', lw=0.7, alpha=0.9)


def plain(ax: Axes) -> None:
    """Remove ticks and frame."""
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def arrow(figure: plt.Figure, start: Axes, end: Axes) -> None:
    """Draw an arrow from the right side of an axes to the left side of another one."""
    style = dict(arrowstyle='-|>', color=LINE, lw=1.1, shrinkA=3, shrinkB=3)
    end.annotate('', (0, 0.5), (1, 0.5), end.transAxes, start.transAxes, arrowprops=style, zorder=0)


def draw_network(crop: np.ndarray, kept: dict, heatmaps: np.ndarray) -> None:
    """Draw columns of stages and rows of branches."""
    figure = plt.figure(figsize=(11, 6.2))
    width, gap, height = 0.105, 0.066, 0.265
    columns = [0.01 + number * (width + gap) for number in range(6)]
    tops = (0.92, 0.61, 0.335, 0.14)
    scales = (1, 0.8, 0.6, 0.42)

    def place(column: int, row: int) -> Axes:
        w, h = width * scales[row], height * scales[row]
        left = columns[column] + (width - w) / 2
        ax = figure.add_axes((left, tops[row] - h, w, h))
        plain(ax)
        return ax

    image = place(0, 0)
    image.imshow(crop[:, :, ::-1])
    image.set_title('crop', fontsize=11)
    rows = [[image]]
    for number in range(4):
        axes = []
        for row, x in enumerate(kept[number]):
            ax = place(number + 1, row)
            ax.imshow(colors(x), interpolation='nearest')
            if number:
                draw_windows(ax, x.shape[1:])
            ax.text(
                0.5, -0.03, f'{BRANCHES[row]}: {x.shape[0]} channels', ha='center', va='top',
                fontsize=7, transform=ax.transAxes, color='#555555',
            )  # fmt: skip
            axes.append(ax)
        axes[0].set_title(f'stage {number + 1}', fontsize=11)
        for start_row, start in enumerate(rows[-1]):
            for end_row, end in enumerate(axes):
                if end_row < len(rows[-1]) or start_row == len(rows[-1]) - 1:
                    arrow(figure, start, end)
        rows.append(axes)
    last = place(5, 0)
    last.imshow(blend(crop, heatmaps))
    last.set_title('heatmaps', fontsize=11)
    arrow(figure, rows[-1][0], last)
    figure.savefig(DOCS / 'network.png', dpi=110, facecolor='white')


def blend(crop: np.ndarray, heatmaps: np.ndarray) -> np.ndarray:
    """Lay heatmaps over a crop; (h, w, 3) RGB in [0, 1]."""
    heat = cv2.resize(heatmaps, crop.shape[1::-1], interpolation=cv2.INTER_CUBIC).clip(0, 1)
    grey = crop.mean(2, keepdims=True).repeat(3, 2) / 255 * 0.75
    return grey * (1 - heat[..., None]) + plt.get_cmap('inferno')(heat)[..., :3] * heat[..., None]


def draw_attention(network: TorchNetwork, crop: np.ndarray, kept: dict, keypoints) -> None:
    """Draw what tokens at keypoints attend to in their windows."""
    attention = network.model.backbone.get_submodule(BLOCK)
    assert isinstance(attention, LocalWindowSelfAttention)
    x = kept['tokens']
    H, W = x.shape[1:3]
    with torch.no_grad():
        weights = attention.attn.attention_weights(window_partition(x, attention.window)).mean(1)
    top, left = padding(H, WINDOW)[0], padding(W, WINDOW)[0]
    columns = -(-W // WINDOW)
    figure, axes = plt.subplots(1, len(QUERIES) + 1, figsize=(10, 3.5))
    scale = crop.shape[0] / H
    for ax in axes:
        plain(ax)
        ax.imshow(crop[:, :, ::-1], extent=(-0.5, W - 0.5, H - 0.5, -0.5))
        draw_windows(ax, (H, W))
    axes[0].set_title(f'{H}x{W} tokens', fontsize=10)
    for ax, name in zip(axes[1:], QUERIES, strict=True):
        u, v = (keypoints[network.skeleton.names.index(name), :2] / scale).round().astype(int)
        u, v = int(np.clip(u, 0, W - 1)), int(np.clip(v, 0, H - 1))
        row, col = (v + top) // WINDOW, (u + left) // WINDOW
        token = (v + top) % WINDOW * WINDOW + (u + left) % WINDOW
        seen = weights[row * columns + col, token].reshape(WINDOW, WINDOW).numpy()
        x0, y0 = col * WINDOW - left - 0.5, row * WINDOW - top - 0.5
        ax.imshow(
            seen, cmap='inferno', extent=(x0, x0 + WINDOW, y0 + WINDOW, y0), alpha=0.85,
            interpolation='nearest', zorder=2,
        )  # fmt: skip
        ax.plot(u, v, 's', ms=6, mfc='none', mec='#38e8ff', mew=1.6, zorder=3)
        ax.set_xlim(-0.5, W - 0.5)
        ax.set_ylim(H - 0.5, -0.5)
        ax.set_title(f'token at {name.replace("_", " ")}', fontsize=10)
    figure.tight_layout(pad=0.4)
    figure.savefig(DOCS / 'windows.png', dpi=100, facecolor='white', bbox_inches='tight')


def draw_heatmaps(network: TorchNetwork, crop: np.ndarray, heatmaps: np.ndarray) -> None:
    """Draw the crop, its heatmaps, and the decoded pose."""
    keypoints, scores = network.predict(crop[None])
    figure, axes = plt.subplots(1, 3, figsize=(7, 3.2))
    pictures = (crop[:, :, ::-1], blend(crop, heatmaps), crop[:, :, ::-1])
    for ax, picture, title in zip(axes, pictures, ('crop', 'heatmaps', 'keypoints'), strict=True):
        plain(ax)
        ax.imshow(picture)
        ax.set_title(title, fontsize=10)
    for a, b in network.skeleton.links:
        axes[2].plot(*keypoints[0, [a, b]].T, color='#38e8ff', lw=1.5)
    axes[2].scatter(*keypoints[0].T, s=14, c=scores[0], cmap='autumn', vmin=0, vmax=1, zorder=3)
    figure.tight_layout(pad=0.4)
    figure.savefig(DOCS / 'heatmaps.png', dpi=100, facecolor='white', bbox_inches='tight')


def main(checkpoint: str, data: str) -> None:
    """Draw the three pictures."""
    network = TorchNetwork(CONFIG, checkpoint, 'cpu', flip_test=False, fuse=False)
    crop, keypoints = person_crop(network, Path(data))
    kept, heatmaps = run(network, crop)
    draw_network(crop, kept, heatmaps)
    draw_attention(network, crop, kept, keypoints)
    draw_heatmaps(network, crop, heatmaps)


if __name__ == '__main__':
    main(*sys.argv[1:3])
