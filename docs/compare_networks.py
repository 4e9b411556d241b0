"""HRFormer-T beside other networks on the built-in data, several seeds: AP over cost, as a figure.

python docs/compare_networks.py [--data-root data/demo] [--seeds 0 1 2] [--epochs 7]

Data, schedule and seeds are the demo's; only the network differs. Crops are 96x64, since MMPose's
HRNet takes multiples of 32. TokenPose-S-v1 is as published but for its patches, 64 in a map;
TransPose-H stands on HRNet-T's stages 1 to 3. What is done is kept: started again, it goes on. The
figure shows AP over GFLOPs and over the milliseconds of an image, batch 8, two threads, all
networks in turns; bars are standard deviations.
"""

import functools
import json
from pathlib import Path
from statistics import mean, stdev

import matplotlib.pyplot as plt
import torch
from comparing import ROOT, compare, config, figures_file, parser
from mmengine.config import Config
from mmpose.registry import MODELS
from torch import nn

from hrformer_mmpose.benchmark import complexity, timing

COMPARISONS = ROOT / 'configs/comparisons'
NETWORKS = (
    'HRFormer-T',
    'TokenPose-S',
    'TransPose-H',
    'HRNet-T',
    'no depth-wise convolution',
    'shifted windows instead',
    'convolutional units',
)
ABLATIONS = {
    'no depth-wise convolution': dict(with_dwconv=False),
    'shifted windows instead': dict(with_dwconv=False, shift_windows=True),
    'convolutional units': dict(block='conv'),
}
ROUNDS, BATCH, THREADS = 15, 8, 2


def change(cfg: Config, name: str) -> None:
    """Replace the network of the demo's config."""
    if name in ABLATIONS:
        cfg.model.backbone.update(ABLATIONS[name])
    elif name != 'HRFormer-T':
        _other_network(cfg, name)


def _other_network(cfg: Config, name: str) -> None:
    width, height = cfg.codec.input_size
    map_size = (height // 4, width // 4)
    trunk = _backbone('hrnet_tiny_coco_256x192')
    if name == 'TokenPose-S':
        model = Config.fromfile(COMPARISONS / 'tokenpose_s_v1_coco_256x192.py').model
        trunk, head = model.backbone, model.head
        head.update(
            map_size=map_size,
            patch_size=(map_size[0] // 8, map_size[1] // 8),
            heatmap_size=tuple(cfg.codec.heatmap_size[::-1]),
        )
        head.decoder = cfg.codec
        cfg.model.head = head
    elif name == 'TransPose-H':
        head = Config.fromfile(COMPARISONS / 'transpose_h_a4_coco_256x192.py').model.head
        cfg.model.head.update(
            {key: head[key] for key in ('type', 'channels', 'depth', 'num_heads')},
            feedforward_channels=head.feedforward_channels,
            map_size=map_size,
        )
        trunk.update(type='hrformer_mmpose.HRNet', num_stages=3)
    trunk.norm_cfg = dict(type='BN')
    trunk.pop('init_cfg', None)
    cfg.model.backbone = trunk


def _backbone(name: str) -> dict:
    return Config.fromfile(COMPARISONS / f'{name}.py').model.backbone


class _Network(nn.Module):
    """Backbone and head for inference."""

    def __init__(self, model: nn.Module):
        super().__init__()
        fuse = getattr(model.backbone, 'fuse_for_inference', None)
        self.backbone, self.head = (model.backbone if fuse is None else fuse()), model.head

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(image))


def costs(args) -> dict[str, tuple[float, float]]:
    """Return GFLOPs and milliseconds of an image by network."""
    torch.set_num_threads(THREADS)
    networks, flops = {}, {}
    for name in args.names:
        cfg = config(name, args.seeds[0], args)
        change(cfg, name)
        model = MODELS.build({**cfg.model, '_scope_': cfg.default_scope}).eval()
        image = torch.rand(1, 3, *args.crop)
        plain = nn.Sequential(model.backbone, model.head)
        flops[name] = complexity.count(plain, image).flops / 1e9
        networks[name] = _Network(model).to(memory_format=torch.channels_last)
    images = torch.rand(BATCH, 3, *args.crop)
    steps = {name: functools.partial(network, images) for name, network in networks.items()}
    with torch.no_grad():
        rows = timing.time_in_turns(
            f'batch {BATCH}',
            steps,
            ROUNDS,
            timing.Timer(torch.device('cpu')),
            reference=args.names[0],
        )
    for row in rows:
        print(timing.line(row))
    return {row['network']: (flops[row['network']], 1e3 * row['median_s'] / BATCH) for row in rows}


def draw(args, path: Path) -> None:
    """Draw AP over GFLOPs and over milliseconds, and print the figures."""
    cost = costs(args)
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), sharey=True)
    for name in args.names:
        aps = [json.loads(figures_file(name, seed, args).read_text())['AP'] for seed in args.seeds]
        spread = stdev(aps) if aps[1:] else 0.0
        print(f'{name:<28}{cost[name][0]:8.3f} GFLOPs{cost[name][1]:8.2f} ms   AP {mean(aps):.3f}')
        for axis, x in zip(axes, cost[name], strict=True):
            axis.errorbar(x, mean(aps), spread, fmt='o', capsize=4, label=name)
    for axis, label in zip(axes, ('GFLOPs an image', 'ms an image, batch 8'), strict=True):
        axis.set(xlabel=label, xlim=(0, None))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(f'AP, {len(args.seeds)} seeds')
    axes[1].legend(fontsize=8, loc='center left')
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    print(f'drawn to {path}')


if __name__ == '__main__':
    flags = parser(__doc__.splitlines()[0], 'work_dirs/compare_networks', [*NETWORKS])
    flags.set_defaults(crop=(96, 64))
    flags.add_argument('--out', default=str(ROOT / 'docs/networks.png'), help='the figure')
    options = flags.parse_args()
    compare(options, change)
    draw(options, Path(options.out))
