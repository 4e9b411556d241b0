"""Learning rates that fall from the head to the stem (layer-wise decay), for HRFormer.

MMPose's constructor of the same name knows ViT's layers only; on another backbone it gives every
parameter the head's rate.
"""

from collections.abc import Iterator
from typing import Any

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from ..backbones import HRFormer
from ..errors import ConfigError
from ..registry import OPTIM_WRAPPER_CONSTRUCTORS

KEY = 'optim_wrapper.paramwise_cfg'


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Multiply the learning rate by `layer_decay_rate` for each layer below the head.

    Layers are what an image passes one after the other: 0 the stem, then stage 1's bottlenecks and
    the transformer blocks, of which parallel branches share a number. A fusion belongs to the last
    block of its module, a transition to the last layer before it. The head, and all else, is layer
    `num_layers + 1`, and layer i has the rate lr layer_decay_rate^(num_layers + 1 - i), as with
    MMPose's constructor. Unlike that one it applies MMEngine's other rules of `paramwise_cfg`
    (`custom_keys`, `bias_decay_mult`, ...), in place of fixed ones for the weight decay.

    Args:
        optim_wrapper_cfg: config of the optimizer wrapper, with `optimizer`.
        paramwise_cfg: `layer_decay_rate`, in (0, 1]; `num_layers`, checked against the network if
            it is given; MMEngine's rules.

    Raises:
        ConfigError: a value that cannot be, or a network without an HRFormer.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None):
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        self._decay = self.paramwise_cfg.get('layer_decay_rate')
        if type(self._decay) not in (int, float) or not 0 < self._decay <= 1:
            raise ConfigError(f'{KEY}.layer_decay_rate={self._decay!r} is not in (0, 1]')
        if self.base_lr is None:
            raise ConfigError('optim_wrapper.optimizer has no lr, which the layers have a share of')
        self._head_lr = self.base_lr

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimizer wrapper of a model."""
        backbone = getattr(getattr(model, 'module', model), 'backbone', None)
        if not isinstance(backbone, HRFormer):
            kind = type(backbone).__name__
            raise ConfigError(f'{KEY}.layer_decay_rate is for HRFormer, the backbone is a {kind}')
        self._layers = {f'backbone.{name}': layer for name, layer in _layers(backbone)}
        count = max(self._layers.values())
        given = self.paramwise_cfg.get('num_layers', count)
        if given != count:
            raise ConfigError(
                f'{KEY}.num_layers={given!r}, but the network has {count} layers (blocks in '
                'sequence): set it to that, or leave it out'
            )
        self._rates = [self._head_lr * self._decay ** (count + 1 - i) for i in range(count + 2)]
        rates = ', '.join(f'{rate:.3g}' for rate in self._rates)
        print_log(f'learning rates from the stem to the head: {rates}', logger='current')
        return super().__call__(model)

    def add_params(
        self, params: list[dict], module: nn.Module, prefix: str = '', **kwargs: Any
    ) -> None:
        """Add the groups of a module's parameters; the rate of its layer is the base of all rules.

        Args:
            params: groups, extended in place.
            module: module, with all its submodules.
            prefix: its name.
            kwargs: MMEngine's.
        """
        if not any(parameter.requires_grad for parameter in module.parameters()):
            return  # frozen: MMEngine has a warning for each parameter
        start, rate = len(params), self._rates[self._layer(prefix)]
        self.base_lr = rate
        super().add_params(params, module, prefix, **kwargs)
        for group in params[start:]:  # those of submodules have a rate
            group.setdefault('lr', rate)
        if not prefix:
            params[:] = _merged(params)

    def _layer(self, name: str) -> int:
        """Return the layer of a module, by the longest part of its name that has one."""
        while name and name not in self._layers:
            name = name.rpartition('.')[0]
        return self._layers.get(name, len(self._rates) - 1)


def _layers(backbone: HRFormer) -> Iterator[tuple[str, int]]:
    """Yield the names of the backbone's parts with their layers."""
    yield from dict.fromkeys(('conv1', 'bn1', 'conv2', 'bn2'), 0).items()
    for last, _ in enumerate(backbone.layer1, start=1):
        yield f'layer1.{last - 1}', last
    yield 'transition1', last
    for stage in (2, 3, 4):
        for index, module in enumerate(getattr(backbone, f'stage{stage}')):
            name = f'stage{stage}.{index}'
            for branch, blocks in enumerate(module.branches):
                yield from (
                    (f'{name}.branches.{branch}.{k}', last + 1 + k) for k in range(len(blocks))
                )
            last += max(map(len, module.branches))
            yield f'{name}.fuse_layers', last
        yield f'transition{stage}', last


def _merged(groups: list[dict]) -> list[dict]:
    """Join the groups of equal settings, which the optimizer then updates at once."""
    merged: dict[str, dict] = {}
    for group in groups:
        settings = {key: value for key, value in group.items() if key != 'params'}
        joined = merged.setdefault(repr(sorted(settings.items())), {'params': [], **settings})
        joined['params'] += group['params']
    return [*merged.values()]
