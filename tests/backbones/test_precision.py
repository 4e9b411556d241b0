"""Mixed precision: outputs close to float32's, and training without overflow."""

import pytest
import torch

from hrformer_mmpose import zoo
from hrformer_mmpose.backbones import HRFormer
from tests.backbones.weights import randomise
from tests.conftest import relative_error


@pytest.mark.parametrize(
    'dtype', [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize('fused', [False, True])
def test_autocast_stays_close_to_float32(dtype, fused):
    torch.manual_seed(0)
    model = HRFormer(arch='tiny', multiscale_output=True).eval()
    randomise(model)
    network = model.fuse_for_inference() if fused else model
    image = torch.rand(2, 3, 128, 96)
    with torch.no_grad():
        expected = model(image)
        with torch.autocast('cpu', dtype):
            maps = network(image)
    for ours, theirs in zip(maps, expected, strict=True):
        assert relative_error(ours.float(), theirs) < 2e-2


@pytest.mark.slow
def test_200_iterations_in_float16_without_overflow(synthetic_root):
    pytest.importorskip('mmpose')
    from mmengine.config import Config
    from mmengine.registry import DefaultScope
    from mmengine.runner import Runner
    from mmpose.registry import MODELS

    import hrformer_mmpose  # noqa: F401

    DefaultScope.get_instance('float16', scope_name='mmpose')
    cfg = Config.fromfile(zoo.find('hrformer_tiny_demo_112x84'))
    cfg.train_dataloader.update(batch_size=2, num_workers=0, persistent_workers=False)
    cfg.train_dataloader.dataset.data_root = str(synthetic_root)
    # Backward passes of convolutions in float16 take minutes on CPUs: half the size.
    codec = {**cfg.codec, 'input_size': (48, 64), 'heatmap_size': (24, 32)}
    cfg.model.head.decoder = codec
    for step in cfg.train_dataloader.dataset.pipeline:
        if 'input_size' in step:
            step.input_size = codec['input_size']
        if 'encoder' in step:
            step.encoder = codec
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)
    scaler = torch.amp.GradScaler('cpu', init_scale=2.0**12, growth_interval=10**6)
    loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    batches, losses = iter(loader), []
    while len(losses) < 200:
        batch = next(batches, None)
        if batch is None:
            batches = iter(loader)
            continue
        data = model.data_preprocessor(batch, True)
        optimizer.zero_grad()
        with torch.autocast('cpu', torch.float16):
            loss = model.parse_losses(model(**data, mode='loss'))[0]
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
        assert torch.isfinite(loss), len(losses)
        assert scaler.get_scale() == 2.0**12, f'a gradient overflowed at iteration {len(losses)}'
    assert sum(losses[-20:]) < sum(losses[:20]) / 2
