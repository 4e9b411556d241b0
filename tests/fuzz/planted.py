"""Inputs of known outcome, by which the harness itself is tested."""

import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

from hrformer_mmpose.errors import DataError

from .worker import CANARY

OUTCOME_OF = ('right', 'line', 'traceback', 'crash', 'hang', 'canary', 'canary', 'wrong', 'memory',
              'memory', 'traceback', 'crash', 'right')  # fmt: skip


class Planted:
    """Input n ends as `OUTCOME_OF[n]` says."""

    name = 'planted'
    isolate = executes = False

    def make(self, rng: random.Random, folder: Path) -> tuple[str, Any]:
        """The number."""
        return f'plant {folder.name}', int(folder.name)

    def judge(self, given: int) -> None:
        """Do as planted."""
        actions = (
            lambda: None, _line, lambda: {}['key'], lambda: os.kill(os.getpid(), signal.SIGSEGV),
            _hang, lambda: Path(CANARY).touch(), lambda: os.system('true'), _wrong,
            lambda: bytearray(48 << 20), _threads, _two_lines, lambda: os._exit(3), lambda: None,
        )  # fmt: skip
        actions[given]()


def _line() -> None:
    raise DataError('one line')


def _two_lines() -> None:
    raise DataError('one line\nand another')


def _hang() -> None:
    while True:
        pass


def _wrong() -> None:
    assert 1 == 2, 'not right'


def _threads() -> None:
    threading.stack_size(2**18)  # 8 MB each would reach the limit of the address space
    for _ in range(60):
        threading.Thread(target=time.sleep, args=(20,), daemon=True).start()
    time.sleep(10)
