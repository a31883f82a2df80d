"""Processes that fit one encoder together, as torchrun starts them, and the device of each.

Each computes its share of a batch, and what they add up is what one process would have computed.
Where no process group is up there is one process, and sums are what they were.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from training.recipe import Device, RecipeError

_PATIENCE = timedelta(days=1)
"""The first process reads, calibrates and measures alone, while the others wait for its next fit.
One that dies is noticed at once: its connections end."""


class ProcessError(Exception):
    """The other processes cannot be reached; one line."""


def count() -> int:
    """Return the number of processes that fit together."""
    return dist.get_world_size() if _is_up() else 1


def rank() -> int:
    """Return the number of this process; the first, 0, is the one that writes."""
    return dist.get_rank() if _is_up() else 0


def is_local_main() -> bool:
    """Return whether this process tells of errors: the first one on its machine."""
    return not dist.is_torchelastic_launched() or _local_rank() == 0


def refuse_several() -> None:
    """Raise RecipeError where torchrun started several processes of a command that is for one."""
    if dist.is_torchelastic_launched() and os.environ.get("WORLD_SIZE", "1") != "1":
        raise RecipeError(
            "only faultcube train fits in several processes: start this command without torchrun"
        )


def device_of(name: Device) -> torch.device:
    """Return the device to fit on, or raise RecipeError where there is none."""
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise RecipeError(
            "there is no CUDA device here, or this torch has no CUDA; give --device cpu or auto"
        )
    if _local_rank() >= torch.cuda.device_count():
        raise RecipeError(
            f"there are {torch.cuda.device_count()} CUDA devices and more processes; give each "
            "process its own: --nproc-per-node gpu"
        )
    return torch.device("cuda", _local_rank())


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Join the other processes, if torchrun started this one.

    Raises:
        ProcessError: they do not answer.
    """
    if not dist.is_torchelastic_launched():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise ProcessError(f"the other processes do not answer: {_first_line(error)}") from error
    try:
        yield
    finally:
        dist.destroy_process_group()


def share_of(total: int) -> slice:
    """Return the rows of this process among `total` rows."""
    return slice(total * rank() // count(), total * (rank() + 1) // count())


def all_reduce(values: Tensor) -> Tensor:
    """Return the sum over all processes, through which gradients pass."""
    if count() == 1:
        return values
    total: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return total


def all_gather(rows: Tensor, share: slice, total: int) -> Tensor:
    """Return the rows of all processes, [total, ...], from those of this process's share."""
    if count() == 1:
        return rows
    # A sum takes shares of different lengths, and its gradient is a sum again.
    whole = rows.new_zeros(total, *rows.shape[1:])
    whole[share] = rows
    return all_reduce(whole)


def add_up_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each parameter's gradient by the sum over all processes."""
    if count() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    total = nn.utils.parameters_to_vector(gradients)
    _add_up(total)
    nn.utils.vector_to_parameters(total, gradients)


def broadcast_state(module: nn.Module) -> None:
    """Give all processes the parameters and buffers of the first: machines may round otherwise."""
    if count() > 1:
        for tensor in module.state_dict().values():
            with _others():
                dist.broadcast(tensor, 0)


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation by the records of all processes (torch's own is for CUDA only)."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's name)
        """Normalise records: float [n, features] to the same."""
        if not self.training or count() == 1:
            return super().forward(input)
        sums = all_reduce(torch.cat([input.sum(dim=0), input.new_tensor([len(input)])]))
        mean, total = sums[:-1] / sums[-1], sums[-1].detach()
        off = input - mean
        variance = all_reduce(off.square().sum(dim=0)) / total
        self._remember(mean.detach(), variance.detach() * total / (total - 1))
        normal = off * torch.rsqrt(variance + self.eps)
        return normal * self.weight + self.bias if self.affine else normal

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        running_mean, running_variance, batches = (
            self.running_mean,
            self.running_var,
            self.num_batches_tracked,
        )
        if running_mean is None or running_variance is None or batches is None:
            return
        momentum = 0.1 if self.momentum is None else self.momentum
        running_mean.lerp_(mean, momentum)
        running_variance.lerp_(variance, momentum)
        batches.add_(1)


class _Sum(torch.autograd.Function):
    """Every process needs the derivative of the whole by its own part: the sum of all of them."""

    @staticmethod
    def forward(_: Any, values: Tensor) -> Tensor:
        return _add_up(values.clone())

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        return _add_up(gradients[0].contiguous().clone())


def _add_up(values: Tensor) -> Tensor:
    with _others():
        dist.all_reduce(values)
    return values


@contextmanager
def _others() -> Iterator[None]:
    """Tell in a line of another process that has ended."""
    try:
        yield
    except RuntimeError as error:
        raise ProcessError("another process of this training ended, and so does this") from error


def _is_up() -> bool:
    return dist.is_available() and dist.is_initialized()


def _local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
