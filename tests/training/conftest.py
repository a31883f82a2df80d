"""Small tables, small recipes, and one model trained on real records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from models.bundle import Bundle
from models.encoder import Encoder
from models.model import Model
from models.schema import Field, Schema
from training.dataset.dataset import Dataset, load_dataset
from training.recipe import Recipe
from training.reports import animation, animation_data, figures
from training.train import Fitted, train

DATA = Path(__file__).parents[2] / "training/data/cisco-iosxr"
IGNORED = ("event", "event_role", "event_device", "seconds_since_event_start", "rates_missing")
TINY: dict[str, Any] = {
    "encoder": {
        "dimensions": 4,
        "members": 1,
        "linear": False,
        "hidden": [16],
        "gain": 4,
        "dropout": 0,
    },
    "fit": {"epochs": 3, "steps": 6, "batch": 48, "learning_rate": 0.02},
}


def shipped_table() -> pl.DataFrame:
    """Every shipped record, with the two splits beside it."""
    table = pl.read_csv(DATA / "cisco_iosxr_features.csv.gz", infer_schema_length=None)
    splits = pl.read_csv(DATA / "splits.csv.gz")
    return table.hstack(splits.select("all", split_a="a"))


@pytest.fixture(scope="session")
def shipped() -> pl.DataFrame:
    return shipped_table()


@pytest.fixture(scope="session")
def real_table(shipped: pl.DataFrame) -> pl.DataFrame:
    """A few hundred real records: 40 train, 20 dev and 25 test ones of each class."""
    wanted = {"train": 40, "dev": 20, "test": 25}
    pieces = [
        shipped.filter((pl.col("all") == part) & (pl.col("label") == label)).gather_every(3)[:count]
        for part, count in wanted.items()
        for label in ("normal", "bgp_clear", "bgp_clear_elsewhere", "port_flap")
    ]
    return pl.concat(pieces).drop("split_a").rename({"all": "part"})


@pytest.fixture(scope="session")
def real_recipe(
    real_table: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Recipe]:
    """A tiny recipe for the real records, or for a changed copy of them."""

    def make(table: pl.DataFrame = real_table, **changes: Any) -> Recipe:
        path = tmp_path_factory.mktemp("real") / "real.parquet"
        table.write_parquet(path)
        content: dict[str, Any] = {
            "name": "real",
            "table": path,
            "label": "label",
            "good": "normal",
            "time": "time",
            "series": ["run", "device"],
            "event": ["run", "event_index"],
            "ignore": IGNORED,
            "split": {"by": "column", "column": "part"},
            "severity": {"bgp_clear": "critical"},
            "encoder": {"dimensions": 4, "members": 2, "hidden": [32], "dropout": 0, "gain": 4},
            "fit": {"epochs": 8, "steps": 15, "batch": 80, "learning_rate": 0.02},
            "unknown_rate": 0.05,
            "calibration": "dev",  # five fits instead of one would be slow
        }
        return Recipe.model_validate(content | changes)

    return make


@pytest.fixture(scope="session")
def real_trained(
    real_recipe: Callable[..., Recipe], once: Callable[..., Any]
) -> tuple[Recipe, Bundle, Fitted]:
    """A recipe with a backtest, and what it was trained to."""
    split = {"by": "time", "column": "time", "within": "label"}
    backtest = {"name": "by time", "split": split}

    def fit() -> tuple[Recipe, Bundle, dict[str, Any]]:
        recipe = real_recipe(backtests=[backtest])
        bundle, fitted = train(recipe, datetime(2026, 1, 2, tzinfo=UTC), lambda *_: None)
        parts = {field.name: getattr(fitted, field.name) for field in fields(fitted)}
        del parts["encoder"]  # its session cannot be pickled
        return recipe, bundle, parts

    recipe, bundle, parts = once("real_trained", fit)
    return recipe, bundle, Fitted(**parts, encoder=Encoder(parts["graph"]))


@pytest.fixture(scope="session")
def real_model(real_trained: tuple[Recipe, Bundle, Fitted]) -> Model:
    return Model(real_trained[1])


@pytest.fixture(scope="session")
def make_table() -> Callable[..., pl.DataFrame]:
    """Makes a table of three classes whose latency tells them apart."""

    def make(rows: int = 240, seed: int = 0, **columns: Any) -> pl.DataFrame:
        random = np.random.default_rng(seed)
        classes = np.arange(rows) % 3
        drops = random.poisson(3 + 5 * (classes == 2)).astype(float)
        table = pl.DataFrame(
            {
                "latency_ms": 5.0 + 40 * (classes == 1) + random.normal(0, 1, rows),
                "drops_rate": pl.Series(np.where(random.random(rows) < 0.1, np.nan, drops)),
                "up": random.random(rows) < 0.7,
                "vendor": random.choice(["acme", "bolt", "core"], rows),
                "device": [f"r{i % 8}" for i in range(rows)],
                "time": np.arange(rows),
                "part": np.repeat(
                    ["train", "dev", "test"], [rows // 2, rows // 4, rows - rows // 2 - rows // 4]
                ),
                "label": np.array(["good", "slow", "lossy"])[classes],
            }
        ).with_columns(pl.col("drops_rate").fill_nan(None))
        return table.with_columns(**{name: pl.Series(each) for name, each in columns.items()})

    return make


@pytest.fixture
def make_recipe(tmp_path: Path) -> Callable[..., Recipe]:
    """Writes a table and gives a tiny recipe for it."""
    written = 0

    def make(table: pl.DataFrame, **changes: Any) -> Recipe:
        nonlocal written
        written += 1
        path = tmp_path / f"table{written}.parquet"
        table.write_parquet(path)
        content: dict[str, Any] = {
            "name": "small",
            "table": path,
            "label": "label",
            "good": "good",
            "split": {"by": "column", "column": "part"},
            **TINY,
        }
        return Recipe.model_validate(content | changes)

    return make


@pytest.fixture
def small_recipe(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe]
) -> Recipe:
    return make_recipe(make_table())


@pytest.fixture
def small_dataset(small_recipe: Recipe) -> Dataset:
    return load_dataset(small_recipe)


@pytest.fixture
def short_film(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw the first and the last frame of a film, once: drawing takes longer than the fits."""
    monkeypatch.setattr(animation_data, "_FRAMES", 2)
    monkeypatch.setattr(animation, "_HOLD", 1)


@pytest.fixture
def blank_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw nothing into the figures of a model card: drawing takes longer than a short fit."""
    monkeypatch.setattr(figures, "png", lambda _: b"\x89PNG\r\n\x1a\n")


@pytest.fixture(scope="session")
def mixed_schema() -> Schema:
    """A gauge, a rate that may be missing, a boolean, and a category that may be missing."""
    return Schema(
        (
            Field(name="latency", kind="gauge", unit="ms", typical=5.0),
            Field(name="drops", kind="rate", required=False, typical=0.0),
            Field(name="up", kind="boolean", typical=True),
            Field(name="link", kind="category", categories=("a", "b"), open=True, required=False),
        )
    )


@pytest.fixture(scope="session")
def mixed_matrix() -> np.ndarray[Any, np.dtype[np.float32]]:
    """Forty training rows of the mixed schema."""
    random = np.random.default_rng(3)
    drops = np.where(random.random(40) < 0.2, np.nan, random.exponential(100, 40))
    columns = [
        random.normal(5, 2, 40),
        drops,
        random.random(40) < 0.5,
        random.choice([0.0, 1.0, np.nan], 40),
    ]
    return np.stack(columns, axis=1).astype(np.float32)
