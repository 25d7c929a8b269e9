"""A fit leaves the process as it found it: random states, torch's settings, others' log levels and shared state.

The trainer seeds the global generators, and dropout has no generator of its own. So a fit runs inside `contained`,
which seeds them and gives them back as they were, also after an error.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState

_ONE_FIT_AT_A_TIME = threading.RLock()  # the states below belong to the process

_TALKATIVE = ("transformers", "sentence_transformers", "accelerate", "datasets", "torch")


@contextmanager
def contained(seed: int) -> Iterator[None]:
    """Run a block with all generators seeded, deterministic and quiet; afterwards everything is as it was."""
    with _ONE_FIT_AT_A_TIME, ExitStack() as stack:
        for keep in (_random_states, _torch_settings, _log_levels, _environment, _accelerate_state):
            stack.enter_context(keep())
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        # Only warns: an operation without a deterministic form is better than no fit.
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # costs, finds bugs
        if torch.cuda.is_available():
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        yield


@contextmanager
def drawing(seed: int) -> Iterator[None]:
    """Draw weights in this block from torch's generator of the CPU, seeded; afterwards it is as it was.

    Unlike `torch.manual_seed` it leaves the generators of graphics processors alone.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def _random_states() -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextmanager
def _torch_settings() -> Iterator[None]:
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


@contextmanager
def _log_levels() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _environment() -> Iterator[None]:
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def _accelerate_state() -> Iterator[None]:
    """A caller's own accelerator keeps its device and precision, and the trainer's data are let go."""
    shared = [kind._shared_state for kind in (PartialState, AcceleratorState, GradientState)]
    before = [dict(state) for state in shared]
    for state in shared:
        state.clear()
    try:
        yield
    finally:
        for state, old in zip(shared, before, strict=True):
            state.clear()
            state.update(old)


def native_bfloat16() -> bool:
    """Whether the processor that will train multiplies bfloat16 in hardware; emulated it would be slower."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
