"""Mixin of runners: the config is to blame for errors of building and of the first use."""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager

from mmengine.runner import BaseLoop
from torch import nn

from ..config_errors import blame


class BlamesConfig:
    """Turn errors of building and of the first use of a config's components into one line.

    First uses are the first iteration and evaluation of each loop, and the first call of each
    method of hooks. What has succeeded once and fails later is a bug, whose traceback must be seen.

    Args:
        args, kwargs: arguments of MMEngine's runner.
    """

    def __init__(self, *args, **kwargs):
        self._is_built = False
        self._succeeded: set[str] = set()
        super().__init__(*args, **kwargs)

    def train(self) -> nn.Module:
        """Train."""
        with self._blame_for_building():
            return super().train()

    def test(self) -> dict:
        """Test."""
        with self._blame_for_building():
            return super().test()

    def val(self) -> dict:
        """Validate."""
        with self._blame_for_building():
            return super().val()

    def load_or_resume(self) -> None:
        """Load weights or resume, when all is built."""
        self._is_built = True
        super().load_or_resume()

    def call_hook(self, fn_name: str, **kwargs) -> None:
        """Call a method of all hooks."""
        self._blame_for_first(super().call_hook, fn_name, 'default_hooks')(fn_name, **kwargs)

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the training loop."""
        return self._watched(super().build_train_loop(loop), 'train')

    def build_val_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the validation loop."""
        return self._watched(super().build_val_loop(loop), 'val')

    def build_test_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the test loop."""
        return self._watched(super().build_test_loop(loop), 'test')

    def _watched(self, loop: BaseLoop, use: str) -> BaseLoop:
        loop.run_iter = self._blame_for_first(loop.run_iter, f'{use}_iter', 'model')
        if evaluator := getattr(loop, 'evaluator', None):
            key = f'{use}_evaluator'
            evaluator.evaluate = self._blame_for_first(evaluator.evaluate, key, key)
        return loop

    def _blame_for_building(self) -> AbstractContextManager:
        self._is_built = False
        return blame(self.cfg, when=lambda: not self._is_built)

    def _blame_for_first(self, function: Callable, use: str, key: str) -> Callable:
        """Return the function, its errors being the config's until it has succeeded once.

        Args:
            function: to call.
            use: name of what it does, shared by all its calls.
            key: key of the config to name if the traceback leads to no component.
        """

        @functools.wraps(function)
        def blaming(*args, **kwargs):
            with blame(self.cfg, key, when=lambda: use not in self._succeeded):
                result = function(*args, **kwargs)
            self._succeeded.add(use)
            return result

        return blaming
