"""Table of the parameters and FLOPs of all configs, counted and published: `tools/model_table.py`.

Two counts are printed. *GFLOPs*: 10^9 multiply-adds of convolutions, linear layers and matrix
products, those inside attention and on padded tokens included. *As published*: 2^30 multiply-adds,
without the products inside attention; the published numbers of HRNet and HRFormer for pose agree
with this count. The run fails if a count deviates from the published one by more than 2 % (and by
more than its rounding), unless `REASONS` gives a reason.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from mmpose.registry import MODELS
from torch import nn

from .. import zoo
from ..benchmark import complexity
from ..errors import ConfigError, UserError

README = "authors' README"
COUNTER = "authors' counter, run on their network"
TOLERANCE = 0.02
HEADS = (
    'config',
    'input',
    'params M',
    'GFLOPs',
    'as published',
    'published: params M, GFLOPs',
    'published: score',
    'source',
)
LEGEND = """
GFLOPs: 10^9 multiply-adds, those inside attention and on padded tokens included. As published: 2^30
multiply-adds without the products inside attention, which is how HRNet, HRFormer and TokenPose for
pose were counted; the published number of an ImageNet config, of TransPose and of PRTR is compared
with the former, others with the latter. -: not found."""


@dataclass
class Published:
    """Published numbers of a config; None if not found.

    Attributes:
        params: millions of parameters.
        gflops: 10^9 multiply-adds if `decimal`, else 2^30 multiply-adds without attention.
        score: AP on COCO val2017, top-1 accuracy on ImageNet, or mIoU in one scale.
        source: source of the numbers.
        digits: decimals of `params` and `gflops`.
        decimal: unit of `gflops`.
    """

    params: float | None = None
    gflops: float | None = None
    score: str | None = None
    source: str = README
    digits: tuple[int, int] = (1, 1)
    decimal: bool = False


PUBLISHED = {
    'hrformer_tiny_coco_256x192': Published(2.5, 1.3, None, 'not verified'),
    'hrformer_small_coco_256x192': Published(7.8, 2.8, 'AP 74.0'),
    'hrformer_small_coco_384x288': Published(7.8, 6.2, 'AP 75.6'),
    'hrformer_base_coco_256x192': Published(43.2, 12.2, 'AP 75.6'),
    'hrformer_base_coco_384x288': Published(43.2, 26.8, 'AP 77.2'),
    'hrformer_tiny_imagenet_224': Published(8.0, 1.83, 'top-1 78.6', README, (1, 2), True),
    'hrformer_small_imagenet_224': Published(13.5, 3.56, 'top-1 81.2', README, (1, 2), True),
    'hrformer_base_imagenet_224': Published(50.3, 13.71, 'top-1 82.8', README, (1, 2), True),
    'hrformer_small_cityscapes_512x1024': Published(score='mIoU 80.0'),
    'hrformer_small_pascal_context_520': Published(score='mIoU 53.8'),
    'hrformer_small_coco_stuff_520': Published(score='mIoU 37.9'),
    'hrformer_base_cityscapes_512x1024': Published(score='mIoU 81.4'),
    'hrformer_base_pascal_context_520': Published(score='mIoU 56.3'),
    'hrformer_base_coco_stuff_520': Published(score='mIoU 41.6'),
    'hrformer_base_window15_cityscapes_512x1024': Published(score='mIoU 81.9'),
    'hrformer_base_window15_pascal_context_520': Published(score='mIoU 57.6'),
    'hrformer_base_window15_coco_stuff_520': Published(score='mIoU 42.4'),
    'tokenpose_s_v1_coco_256x192': Published(6.6, 2.2, 'AP 72.5', "TokenPose's paper"),
    'tokenpose_s_v2_coco_256x192': Published(6.2, 11.6, 'AP 73.5', "TokenPose's paper"),
    'tokenpose_b_coco_256x192': Published(13.5, 5.7, 'AP 74.7', "TokenPose's paper"),
    'tokenpose_l_d6_coco_256x192': Published(20.8, 9.1, None, COUNTER),
    'tokenpose_l_d24_coco_256x192': Published(27.5, 11.0, 'AP 75.8', "TokenPose's paper"),
    'tokenpose_l_d24_coco_384x288': Published(29.8, 22.1, None, COUNTER),
    'transpose_r_a3_coco_256x192': Published(5.2, 8.0, 'AP 71.7', README, decimal=True),
    'transpose_r_a4_coco_256x192': Published(6.0, 8.9, 'AP 72.6', README, decimal=True),
    'transpose_h_a4_coco_256x192': Published(17.3, 17.5, 'AP 75.3', README, decimal=True),
    'transpose_h_a6_coco_256x192': Published(17.5, 21.8, 'AP 75.8', README, decimal=True),
    'swin_tiny_coco_256x192': Published(None, None, 'AP 72.4', 'MMPose'),
    'swin_base_coco_256x192': Published(None, None, 'AP 73.7', 'MMPose'),
    'vit_base_coco_256x192': Published(None, None, 'AP 75.7', 'ViTPose-B in MMPose'),
    'vit_large_coco_256x192': Published(None, None, 'AP 78.2', 'ViTPose-L in MMPose'),
    'pvt_small_coco_256x192': Published(None, None, 'AP 71.4', 'MMPose'),
    'pvtv2_b2_coco_256x192': Published(None, None, 'AP 73.7', 'MMPose'),
    **{
        f'prtr_{trunk}_coco_{size}': Published(
            params, gflops, f'AP {ap}', "PRTR's README", decimal=True
        )
        for trunk, size, params, gflops, ap in (
            ('res50', '384x288', 41.5, 11.0, 68.2),
            ('res50', '512x384', 41.5, 18.8, 71.0),
            ('res101', '384x288', 60.4, 19.1, 70.1),
            ('res101', '512x384', 60.4, 33.4, 72.0),
            ('hrnet_w32', '384x288', 57.2, 21.6, 73.1),
            ('hrnet_w32', '512x384', 57.2, 37.8, 73.3),
        )
    },
}
# AP of HRNet's own recipe (its README), and of DARK and UDP in MMPose; neither is the recipe here.
_HRNET = {
    'w32_coco_256x192': (28.5, 7.1, 74.4, 75.7, 76.2),
    'w32_coco_384x288': (28.5, 16.0, 75.8, 76.6, 76.8),
    'w48_coco_256x192': (63.6, 14.6, 75.1, 76.4, 76.8),
    'w48_coco_384x288': (63.6, 32.9, 76.3, 77.2, 77.3),
}
for _name, (_params, _gflops, _own, _dark, _udp) in _HRNET.items():
    for _suffix, _ap, _source in (
        ('', _own, "HRNet's README"),
        ('_adam', _own, "HRNet's README"),
        ('_dark', _dark, 'MMPose'),
        ('_udp', _udp, 'MMPose'),
    ):
        _score = f'AP {_ap}'
        PUBLISHED[f'hrnet_{_name}{_suffix}'] = Published(_params, _gflops, _score, _source)
_COUNTER = (
    "the published GFLOPs are 3 to 7 % higher: the authors' counter includes BatchNorm, ReLU, "
    'softmax and elementwise operations'
)
_TOKENS = (
    "the authors' counter multiplies the output of a linear layer by its number of tokens instead "
    'of its input channels'
)
_SOFTMAX = "the authors' counter includes BatchNorm, ReLU, softmax and elementwise operations"
_TRANSPOSED = (
    f'{_SOFTMAX}, and counts the strided transposed convolution for each pixel of its output '
    'instead of its input (2.4 GFLOPs more)'
)
REASONS = {
    **{f'hrformer_{arch}_imagenet_224': _COUNTER for arch in ('tiny', 'small', 'base')},
    'tokenpose_s_v2_coco_256x192': f'{_TOKENS}, and leaves out the position embedding (0.15 M)',
    'tokenpose_b_coco_256x192': _TOKENS,
    'tokenpose_l_d24_coco_256x192': _TOKENS,
    'tokenpose_l_d24_coco_384x288': _TOKENS,
    'transpose_r_a3_coco_256x192': _TRANSPOSED,
    'transpose_r_a4_coco_256x192': _TRANSPOSED,
    'transpose_h_a6_coco_256x192': _SOFTMAX,
}


@dataclass
class Row:
    """One row of the table."""

    config: str
    input: str
    params: float
    gflops: float
    gflops_as_published: float
    published: Published | None
    reason: str | None

    def deviations(self) -> list[str]:
        """Return the counts that differ from the published figures by more than the tolerance."""
        if self.published is None:
            return []
        gflops = self.gflops if self.published.decimal else self.gflops_as_published
        pairs = (
            ('parameters', self.params, self.published.params, self.published.digits[0]),
            ('GFLOPs', gflops, self.published.gflops, self.published.digits[1]),
        )
        return [
            f'{name} {count:.3f}, published {published}'
            for name, count, published, digits in pairs
            if published is not None
            and abs(count - published) - 0.5 * 10**-digits > TOLERANCE * published
            and self.reason is None
        ]


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    flags = argparse.ArgumentParser(description='Parameters and FLOPs of the configs.')
    flags.add_argument('configs', nargs='*', help='files or names of configs; all by default')
    flags.add_argument('--json', help='file for the numbers')
    return flags


def run(args: argparse.Namespace) -> None:
    """Print the table as Markdown.

    Raises:
        UserError: a count deviates from the published one without a stated reason.
        ConfigError: a config does not exist or has no model.
    """
    configs = {Path(path).stem: _read(path) for path in args.configs or zoo.names()}
    if args.json:
        Path(args.json).parent.mkdir(parents=True, exist_ok=True)
    print(f'| {" | ".join(HEADS)} |')
    print('|---' * len(HEADS) + '|')
    rows = []
    for name, cfg in configs.items():
        rows.append(measure(name, cfg))
        print(_line(rows[-1]), flush=True)
    print(LEGEND)
    for reason in {row.reason: None for row in rows if row.reason}:
        print(f'\n{", ".join(row.config for row in rows if row.reason == reason)}: {reason}')
    if args.json:
        Path(args.json).write_text(json.dumps([asdict(row) for row in rows], indent=1))
    deviations = [f'{row.config}: {text}' for row in rows for text in row.deviations()]
    if deviations:
        raise UserError('counts deviate from the published ones: ' + '; '.join(deviations))


def _read(path: str) -> Config:
    cfg = zoo.read_config(path)
    if 'model' not in cfg:
        raise ConfigError(f"config '{path}' has no model")
    return cfg


def measure(name: str, cfg: Config) -> Row:
    """Build the network of a config and count the forward pass of one image."""
    cfg.model.backbone.pop('init_cfg', None)
    model = MODELS.build({**cfg.model, '_scope_': cfg.default_scope})
    model.eval()
    height, width = input_size(cfg)
    image = torch.zeros(1, 3, height, width)
    counts = complexity.count(lambda image: model(image, None, mode='tensor'), image)
    inside = sum(one.flops for op, one in counts.operators.items() if _is_attention(op))
    return Row(
        name,
        f'{height}x{width}',
        _parameters(model) / 1e6,
        counts.flops / 1e9,
        (counts.flops - inside) / 2**30,
        PUBLISHED.get(name),
        REASONS.get(name),
    )


def input_size(cfg: Config) -> tuple[int, int]:
    """Return the input size (height, width) of a config."""
    if 'codec' in cfg:
        width, height = cfg.codec.input_size
        return height, width
    size = cfg.get('crop_size') or next(s['size'] for s in cfg.test_pipeline if 'size' in s)
    return (size, size) if isinstance(size, int) else tuple(size)


def _is_attention(operator: str) -> bool:
    return 'attention' in operator or 'bmm' in operator


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _line(row: Row) -> str:
    published = row.published or Published(source='-')
    numbers = zip((published.params, published.gflops), published.digits, strict=True)
    counts = ', '.join('-' if v is None else f'{v:.{digits}f}' for v, digits in numbers)
    cells = (
        row.config,
        row.input,
        f'{row.params:.3f}',
        f'{row.gflops:.2f}',
        f'{row.gflops_as_published:.2f}',
        '-' if counts == '-, -' else counts,
        published.score or '-',
        published.source,
    )
    return f'| {" | ".join(cells)} |'
