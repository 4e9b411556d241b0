"""Trains HRFormer-T on the built-in data with each codec and several seeds, and compares them.

python docs/compare_codecs.py [--data-root data/demo] [--seeds 0 1 2] [--epochs 7]

Data, network, schedule and seeds are the demo's; only the codec and the crop it needs differ. What
is done is kept in the work folder: started again, it goes on.
"""

from comparing import compare, parser
from mmengine.config import Config

CODECS = {
    'MSRA': dict(type='hrformer_mmpose.MSRAHeatmap'),
    'DARK': dict(type='hrformer_mmpose.MSRAHeatmap', unbiased=True, blur_kernel_size=11),
    'UDP': dict(type='hrformer_mmpose.UDPHeatmap', blur_kernel_size=11),
}


def change(cfg: Config, name: str) -> None:
    """Another codec, and the crop that goes with it."""
    sizes = {key: cfg.codec[key] for key in ('input_size', 'heatmap_size', 'sigma')}
    codec = {**sizes, **CODECS[name]}
    cfg.codec = cfg.model.head.decoder = codec
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        for step in loader.dataset.pipeline:
            if step.type == 'hrformer_mmpose.TopdownAffine':
                step.use_udp = name == 'UDP'
            elif step.type == 'GenerateTarget':
                step.encoder = codec


if __name__ == '__main__':
    flags = parser(__doc__.splitlines()[0], 'work_dirs/compare_codecs', [*CODECS])
    compare(flags.parse_args(), change)
