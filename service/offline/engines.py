"""Engines that score the units of an archive: processes here, or those of Ray or Spark.

Each is a function of a job and its units that yields counts, one a unit, in any order. Whatever
dies, a unit is scored again until its part is there.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any

from service.offline.archive_units import Job, Unit, score
from service.offline.batch import Counts
from service.offline.tables import TableError

__all__ = ["ENGINES", "Engine"]

Engine = Callable[[Job, Sequence[Unit]], Iterator[Counts]]

_DEATHS = 3
"""Times that a worker may die before the job is given up."""
_WAVE = 8
"""Units that Spark is given at a time, for each core: progress is told after each wave."""


def with_processes(jobs: int, job: Job, units: Sequence[Unit]) -> Iterator[Counts]:
    """Score units in processes of this machine."""
    left, deaths = list(units), 0
    while left:
        # Not forked: threads of onnxruntime would be missing in a copy of this process.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(
            min(jobs, len(left)), context, initializer=_follow, initargs=(os.getpid(),)
        ) as pool:
            futures = {pool.submit(score, job, unit): unit for unit in left}
            try:
                for future in as_completed(futures):
                    counts = future.result()
                    left.remove(futures[future])
                    yield counts
            except BrokenProcessPool as error:
                deaths += 1
                if deaths >= _DEATHS:
                    raise TableError(
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


def with_ray(jobs: int, job: Job, units: Sequence[Unit]) -> Iterator[Counts]:
    """Score units as tasks of Ray: of the cluster at RAY_ADDRESS, or of one on this machine."""
    ray = _library("ray")
    address = os.environ.get("RAY_ADDRESS")
    own = {} if address else {"num_cpus": jobs, "include_dashboard": False}
    ray.init(address=address, log_to_driver=False, logging_level="error", **own)
    try:
        # A worker that dies, and a machine with it, costs only its task.
        task = ray.remote(num_cpus=1, max_retries=_DEATHS)(score)
        shared, waiting = ray.put(job), list(reversed(units))
        running: list[Any] = []
        while waiting or running:
            room = max(2 * int(ray.cluster_resources().get("CPU", jobs)), 2) - len(running)
            running += [task.remote(shared, waiting.pop()) for _ in range(min(room, len(waiting)))]
            [done], running = ray.wait(running)
            yield ray.get(done)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, TableError):
            raise error.cause from error
        raise
    except ray.exceptions.RayError as error:
        raise TableError(f"Ray gave up: {str(error).splitlines()[0]}") from error
    finally:
        ray.shutdown()


def with_spark(jobs: int, job: Job, units: Sequence[Unit]) -> Iterator[Counts]:
    """Score units as tasks of Spark: on the cluster of spark-submit, or on this machine."""
    sql = _library("pyspark.sql", extra="spark")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = sql.SparkSession.builder.appName("faultcube classify")
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
            yield from context.parallelize(part, len(part)).map(partial(score, job)).collect()
    except Exception as error:
        raise TableError(_reason(error)) from error
    finally:
        session.stop()


def _reason(error: Exception) -> str:
    """Return the line of Spark's report that a worker raised."""
    for line in str(error).splitlines():
        _, found, text = line.partition("TableError: ")
        if found:
            return text
    return f"Spark gave up: {str(error).splitlines()[0]}"


def _library(name: str, extra: str = "") -> Any:
    from importlib import import_module  # noqa: PLC0415 - here alone

    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        extra = extra or name
        raise TableError(
            f"this engine needs more libraries: pip install 'faultcube[{extra}]'"
        ) from error


ENGINES: dict[str, Callable[[int, Job, Sequence[Unit]], Iterator[Counts]]] = {
    "local": with_processes,
    "ray": with_ray,
    "spark": with_spark,
}
"""By name; the first argument is the number of workers on this machine."""
