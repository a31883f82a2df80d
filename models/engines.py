"""Engines that do units of work: processes here, or those of Ray or Spark.

Each is a function of a number of workers, the work, and its units, that yields a result for each
unit, in any order. Whatever dies, a unit is begun again until it is done; so the work has to be the
same when it is done twice. What the work raises ends the engine.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol, TypeVar

__all__ = [
    "ENGINES",
    "Engine",
    "EngineError",
    "with_processes",
    "with_ray",
    "with_spark",
]

_U = TypeVar("_U")
_R = TypeVar("_R")

_DEATHS = 3
"""Times that a worker may die before the work is given up."""
_WAVE = 8
"""Units that Spark is given at a time, for each core: progress is told after each wave."""
_FRAMES = "Traceback (most recent call last):"
_RAISED = re.compile(r"^(?:\w+\.[\w.]+: )?(\S.*)", re.MULTILINE)
"""The line after the frames, which says what was raised, without the name of our exceptions."""
_ABORTED = re.compile(r"SparkException: (.+)")


class Engine(Protocol):
    """Does units of work."""

    def __call__(self, jobs: int, work: Callable[[_U], _R], units: Sequence[_U], /) -> Iterator[_R]:
        """Yield what the work makes of each unit, in any order.

        Args:
            jobs: workers on this machine; a cluster of its own has as many as it has.
            work: a function that other processes can import, or a partial of one.
            units: what it is done to.

        Raises:
            EngineError: the engine is not installed, its workers died too often, or, with Spark,
                the work raised; the others raise what the work raised.
        """


class EngineError(Exception):
    """An engine cannot do the work; one line that says why."""


def with_processes(jobs: int, work: Callable[[_U], _R], units: Sequence[_U]) -> Iterator[_R]:
    """Do units in processes of this machine."""
    left, deaths = dict(enumerate(units)), 0
    while left:
        # Not forked: threads of onnxruntime and polars would be missing in a copy of this process.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(
            min(jobs, len(left)), context, initializer=_follow, initargs=(os.getpid(),)
        ) as pool:
            futures = {pool.submit(work, unit): number for number, unit in left.items()}
            try:
                for future in as_completed(futures):
                    result = future.result()
                    del left[futures[future]]
                    yield result
            except BrokenProcessPool as error:
                deaths += 1
                if deaths >= _DEATHS:
                    raise EngineError(
                        f"workers died {deaths} times, perhaps for want of memory: try fewer "
                        "--jobs; what is done stays done"
                    ) from error
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _follow(parent: int) -> None:
    """End this worker with the process that started it, however that ends."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def with_ray(jobs: int, work: Callable[[_U], _R], units: Sequence[_U]) -> Iterator[_R]:
    """Do units as tasks of Ray: of the cluster at RAY_ADDRESS, or of one on this machine."""
    factory = logging.getLogRecordFactory()
    ray = _library("ray")
    address = os.environ.get("RAY_ADDRESS")
    own = {} if address else {"num_cpus": jobs, "include_dashboard": False}
    ray.init(address=address, log_to_driver=False, logging_level="error", **own)
    logging.setLogRecordFactory(factory)  # Ray gives every log record of this process a field
    try:
        # A worker that dies, and a machine with it, costs only its task.
        task = ray.remote(num_cpus=1, max_retries=_DEATHS)(_do)
        shared, waiting = ray.put(work), list(reversed(units))
        running: list[Any] = []
        while waiting or running:
            room = max(2 * int(ray.cluster_resources().get("CPU", jobs)), 2) - len(running)
            running += [task.remote(shared, waiting.pop()) for _ in range(min(room, len(waiting)))]
            [done], running = ray.wait(running)
            yield ray.get(done)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayError as error:
        raise EngineError(f"Ray gave up: {str(error).splitlines()[0]}") from error
    finally:
        ray.shutdown()


def _do(work: Callable[[_U], _R], unit: _U) -> _R:
    return work(unit)


def with_spark(jobs: int, work: Callable[[_U], _R], units: Sequence[_U]) -> Iterator[_R]:
    """Do units as tasks of Spark: on the cluster of spark-submit, or on this machine."""
    sql = _library("pyspark.sql", extra="spark")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = sql.SparkSession.builder.appName("faultcube")
    if "PYSPARK_GATEWAY_PORT" not in os.environ:  # spark-submit has not started us
        master = f"local[{jobs}, {_DEATHS}]"
        builder = builder.master(master).config("spark.ui.enabled", "false")
        builder = builder.config("spark.ui.showConsoleProgress", "false")
    session = builder.getOrCreate()
    context = session.sparkContext
    context.setLogLevel("OFF")
    wave = _WAVE * context.defaultParallelism
    try:
        for start in range(0, len(units), wave):
            part = units[start : start + wave]
            yield from context.parallelize(part, len(part)).map(work).collect()
    except Exception as error:
        raise EngineError(_reason(error)) from error
    finally:
        session.stop()


def _reason(error: Exception) -> str:
    """Return the line of Spark's report that says what a worker raised, or why it gave up."""
    report = str(error)
    _, _, frames = report.rpartition(_FRAMES)
    raised, aborted = _RAISED.search(frames), _ABORTED.search(report)
    if _FRAMES in report and raised:
        return raised[1]
    said = aborted[1] if aborted else (report or type(error).__name__).splitlines()[0]
    return f"Spark gave up: {said}"


def _library(name: str, extra: str = "") -> Any:
    from importlib import import_module  # noqa: PLC0415 - here alone

    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        extra = extra or name
        raise EngineError(
            f"this engine needs more libraries: pip install -c constraints.txt '.[{extra}]'"
        ) from error


ENGINES: dict[str, Engine] = {
    "local": with_processes,
    "ray": with_ray,
    "spark": with_spark,
}
