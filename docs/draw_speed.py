"""Where the time of a step goes, MMPose's HRFormer beside ours: python docs/draw_speed.py.

Every operator that PyTorch calls is timed where it is called, in inference and a training step of
HRFormer-B, and put down to a kind; the last of several steps is drawn into docs/speed.png.
"""

import time
from collections import defaultdict
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hrformer_mmpose.benchmark import baselines as rivals

KINDS = {
    'BatchNorm, GELU, depth-wise convolution in one': (
        'bn_gelu',
        'gelu_dwconv',
        'bn_backward_',
        'moments',
    ),
    'matrix products, convolutions': ('conv', 'mm', 'linear'),
    'attention kernel, softmax': ('attention', 'softmax'),
    'normalisation': ('norm',),
    'GELU, ReLU': ('gelu', 'relu', 'threshold'),
    'copies, padding': ('clone', 'copy', 'pad', 'stack', 'cat', 'slice', 'select', 'index'),
    'sums, the rest': ('',),
}
WARM_UP = 4


class _Times(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.kinds: dict[str, float] = defaultdict(float)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        start = time.perf_counter()
        result = function(*args, **(kwargs or {}))
        name = function.name().partition('::')[2]  # without the library's, `hrformer_mmpose`
        kind = next(k for k, parts in KINDS.items() if any(part in name for part in parts))
        self.kinds[kind] += time.perf_counter() - start
        return result


def measure(network: torch.nn.Module, batch: int, training: bool) -> dict[str, float]:
    """Seconds by kind of operator."""
    image = torch.rand(batch, 3, 256, 192)
    for _ in range(WARM_UP + 1):
        network.zero_grad(set_to_none=True)
        with torch.set_grad_enabled(training), _Times() as times:
            out = network(image)[0]
            if training:
                out.square().mean().backward()
    return times.kinds


def main() -> None:
    """Measure and draw."""
    torch.set_num_threads(2)
    made = rivals.networks('base')
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout='constrained')
    for axis, training in zip(axes, (False, True), strict=True):
        rows = {}
        for label, name in (('MMPose', rivals.MMPOSE), ('here', 'ours')):
            network = made[name]
            network.train(training)
            if name == 'ours' and not training:
                network = network.fuse_for_inference()
            rows[label] = measure(network, 8, training)
        left = dict.fromkeys(rows, 0.0)
        for index, kind in enumerate(KINDS):
            seconds = [rows[label][kind] for label in rows]
            axis.barh([*rows], seconds, left=[*left.values()], label=kind, color=f'C{index}')
            left = {label: left[label] + rows[label][kind] for label in rows}
        for label, total in left.items():
            axis.text(total, label, f' {total:.2f} s', va='center')
        axis.set_xlim(0, max(left.values()) * 1.15)
        axis.set_xlabel('seconds in operators')
        axis.set_title(('Training step' if training else 'Inference') + ', HRFormer-B, batch 8')
        axis.invert_yaxis()
        axis.spines[['top', 'right']].set_visible(False)
    figure.legend(*axes[0].get_legend_handles_labels(), loc='outside lower center', ncols=3)
    figure.savefig(Path(__file__).with_name('speed.png'), dpi=110)


if __name__ == '__main__':
    main()
