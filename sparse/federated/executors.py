"""Where the workers' training runs: one after the other, in threads, or in processes.

A task's result depends on the task alone, so all give the same bytes.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor

KINDS = ("serial", "threads", "processes")


class Serial(Executor):
    """Runs every call at once, in the caller."""

    def submit(self, fn: Callable[..., object], /, *args: object, **kwargs: object) -> Future:
        """A finished future; what the call raises is raised by ``result``."""
        future: Future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def make(kind: str, n_jobs: int | None) -> Executor:
    """An executor of one of `KINDS`, with so many threads or processes."""
    if kind == "threads":
        return ThreadPoolExecutor(n_jobs)
    if kind == "processes":
        # a fork of a process with threads may hang
        return ProcessPoolExecutor(n_jobs, mp_context=multiprocessing.get_context("spawn"))
    return Serial()
