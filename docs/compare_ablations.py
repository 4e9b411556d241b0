"""The paper's tables 7, 9 and 11 in small: HRFormer-T on the built-in data, several seeds.

python docs/compare_ablations.py [--data-root data/demo] [--seeds 0 1 2] [--epochs 7] [--crop 56 40]

Data, schedule and seeds are the demo's; only the network differs. HRFormer-T and its convolutional
twin take equal FLOPs (tools/model_table.py). What is done is kept: started again, it goes on.
"""

from comparing import compare, parser
from mmengine.config import Config

NETWORKS = {
    'HRFormer-T': dict(),
    'no depth-wise convolution': dict(with_dwconv=False),
    'shifted windows instead': dict(with_dwconv=False, shift_windows=True),
    'convolutional units': dict(block='conv'),
}


def change(cfg: Config, name: str) -> None:
    """Another network."""
    cfg.model.backbone.update(NETWORKS[name])


if __name__ == '__main__':
    flags = parser(__doc__.splitlines()[0], 'work_dirs/compare_ablations', [*NETWORKS])
    compare(flags.parse_args(), change)
