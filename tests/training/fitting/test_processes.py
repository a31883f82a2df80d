from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.schema import Field, Schema
from training.dataset.dataset import Rows
from training.fitting import processes
from training.fitting.encoder import Encoder
from training.fitting.fit import backward, embed_together, fit
from training.fitting.losses import LOSSES, make_loss
from training.fitting.processes import BatchNorm, ProcessError, device_of, share_of
from training.recipe import EncoderRecipe, FitRecipe, RecipeError

CPU = torch.device("cpu")
SHAPE = EncoderRecipe(dimensions=4, members=2, hidden=(8, 6), dropout=0, linear=False)
BATCH = np.arange(45)  # cannot be halved


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def rows() -> tuple[Schema, Rows]:
    """Forty-five records of three classes, in the order of their classes as in a batch."""
    random = np.random.default_rng(5)
    labels = np.repeat(np.arange(3), 15)
    matrix = random.normal(labels[:, None], 2, (45, 5)).astype(np.float32)
    matrix[random.random(matrix.shape) < 0.1] = np.nan
    fields = [Field(name=f"x{i}", kind="gauge", required=False) for i in range(5)]
    return Schema(fields), Rows(matrix, labels)


def step(loss: str) -> dict[str, Any]:
    """Gradients, loss and running statistics of one batch, in float64."""
    schema, train = rows()
    torch.manual_seed(3)
    encoder = Encoder(schema, train.matrix, train.labels, SHAPE).double().train()
    records = torch.from_numpy(train.matrix).double()
    criterion = make_loss(FitRecipe.model_validate({"loss": loss, "margin": 0.5}))
    value = backward(encoder, criterion, records, torch.from_numpy(train.labels), BATCH)
    gradients = [each.grad for each in encoder.parameters() if each.grad is not None]
    return {
        "gradients": nn.utils.parameters_to_vector(gradients).numpy(),
        "loss": float(processes.all_reduce(torch.tensor(value, dtype=torch.float64))),
        "buffers": [buffer.numpy() for buffer in encoder.buffers()],
    }


def whole_fit(dropout: float = 0) -> dict[str, Any]:
    """Results of a short fit."""
    schema, train = rows()
    settings = FitRecipe(epochs=3, steps=4, batch=45)
    shape = SHAPE.model_copy(update={"dropout": dropout})
    encoder, history = fit(schema, train, train, shape, settings, lambda *_: None)
    weights = nn.utils.parameters_to_vector(encoder.parameters()).detach().numpy()
    points = embed_together(encoder, train.matrix)
    return {"weights": weights, "losses": [epoch.loss for epoch in history], "points": points}


def all_results() -> dict[str, Any]:
    return {
        "steps": {loss: step(loss) for loss in LOSSES},
        "fit": whole_fit(),
        "fit with dropout": whole_fit(dropout=0.5),
    }


def die_in_the_second() -> str:
    if processes.rank() == 1:
        os._exit(1)
    with pytest.raises(ProcessError) as refusal:
        processes.all_reduce(torch.ones(3))
    return str(refusal.value)


def in_process(rank: int, port: int, work: Callable[[], Any], answers: Any) -> None:
    """Do what torchrun does for a process."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test",
    }
    torch.set_num_threads(1)
    with processes.joined(CPU):
        answers.put((rank, work()))


def in_two_processes(work: Callable[[], Any], count: int = 2) -> list[Any]:
    """What a function returns in `count` of two processes that fit together."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    started = [
        context.Process(target=in_process, args=(rank, port, work, answers)) for rank in range(2)
    ]
    for process in started:
        process.start()
    found = dict(answers.get(timeout=120) for _ in range(count))
    for process in started:
        process.join(timeout=60)
    return [found[rank] for rank in range(count)]


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    return all_results()


@pytest.fixture(scope="module")
def together() -> list[dict[str, Any]]:
    """The same in each of two processes."""
    return in_two_processes(all_results)


@pytest.mark.parametrize("loss", LOSSES)
def test_two_processes_have_the_gradients_of_one(
    loss: str, alone: dict[str, Any], together: list[dict[str, Any]]
) -> None:
    expected = alone["steps"][loss]
    assert np.abs(expected["gradients"]).max() > 1e-4
    for each in together:
        given = each["steps"][loss]
        assert np.abs(given["gradients"] - expected["gradients"]).max() <= 1e-12
        assert given["loss"] == pytest.approx(expected["loss"], rel=1e-12)
        for buffer, as_expected in zip(given["buffers"], expected["buffers"], strict=True):
            np.testing.assert_allclose(buffer, as_expected, rtol=1e-12, atol=1e-12)


def test_two_processes_fit_one_encoder_and_it_is_that_of_one_process(
    alone: dict[str, Any], together: list[dict[str, Any]]
) -> None:
    one, other = (each["fit"] for each in together)
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)
        np.testing.assert_allclose(value, alone["fit"][name], rtol=0.02, atol=0.02, err_msg=name)


def test_what_drops_out_differs_and_the_encoder_does_not(
    alone: dict[str, Any], together: list[dict[str, Any]]
) -> None:
    one, other = (each["fit with dropout"]["weights"] for each in together)
    np.testing.assert_array_equal(one, other)
    assert not np.allclose(one, alone["fit with dropout"]["weights"], atol=1e-3)


def test_when_a_process_ends_the_other_says_so_in_a_line() -> None:
    assert in_two_processes(die_in_the_second, 1) == [
        "another process of this training ended, and so does this"
    ]


def test_alone_nothing_is_exchanged() -> None:
    values = torch.ones(3)
    with processes.joined(CPU):
        assert (processes.count(), processes.rank()) == (1, 0)
        assert processes.all_reduce(values) is values
        assert processes.all_gather(values, share_of(3), 3) is values
    assert processes.is_local_main()


@pytest.mark.parametrize("total", [0, 1, 7, 45])
def test_shares_make_up_the_whole(total: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "count", lambda: 4)
    covered: list[int] = []
    for number in range(4):
        monkeypatch.setattr(processes, "rank", lambda number=number: number)
        covered += range(total)[share_of(total)]
    assert covered == [*range(total)]


def test_batch_normalisation_alone_is_torchs() -> None:
    points = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    ours, theirs = BatchNorm(4), nn.BatchNorm1d(4)

    def after(norm: nn.Module) -> Tensor:
        out: Tensor = norm(points)
        return out

    assert torch.equal(after(ours), after(theirs))
    assert torch.equal(after(ours.eval()), after(theirs.eval()))


def test_processes_that_do_not_answer_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with (
        pytest.raises(ProcessError, match="the other processes do not answer"),
        processes.joined(CPU),
    ):
        raise AssertionError


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of("cpu") == device_of("auto") == CPU
    with pytest.raises(RecipeError, match="no CUDA device") as refusal:
        device_of("cuda")
    assert "\n" not in str(refusal.value)


def test_each_process_takes_its_own_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert device_of("auto") == device_of("cuda") == torch.device("cuda", 1)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(RecipeError, match="more processes"):
        device_of("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_fit_on_a_cuda_device_is_about_that_on_the_processor() -> None:
    schema, train = rows()
    losses = []
    for device in ("cpu", "cuda"):
        settings = FitRecipe.model_validate(
            {"epochs": 2, "steps": 4, "batch": 45, "device": device}
        )
        encoder, history = fit(schema, train, train, SHAPE, settings, lambda *_: None)
        assert next(encoder.parameters()).device == CPU
        losses.append(history[-1].loss)
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
