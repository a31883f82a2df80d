"""A bundle as an MLflow model: a folder that `mlflow.pyfunc.load_model` reads.

Nothing is pickled. The folder holds the bundle, and names this module as what loads it.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.bundle import Bundle, BundleError
from models.model import Model

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BundleModel", "save"]

_COLUMNS = ("label", "good", "distance", "confidence", "nearest")


class BundleModel:
    """What MLflow calls a model: a table in, a table out.

    Args:
        model: decides.
    """

    def __init__(self, model: Model) -> None:
        self.model = model

    def predict(self, records: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Give every record its verdict.

        Args:
            records: a column for each field; other columns are left out, and what is NaN, None or
                no column at all is missing.
            params: there are none.

        Returns:
            The same index, with the columns of `Verdict`, in its order.

        Raises:
            RecordError: a record does not fit the schema.
            ValueError: there are params.
        """
        import pandas as pd  # noqa: PLC0415 - whoever has a table of it has it

        if params:
            raise ValueError(f"the model takes no params, not even {next(iter(params))!r}")
        known = records[[name for name in self.model.schema.names if name in records.columns]]
        plain = known.astype(object).where(known.notna(), None)
        values = [dict(zip(known.columns, row, strict=True)) for row in plain.to_numpy()]
        verdicts = self.model.classify(values)
        rows = [[getattr(verdict, name) for name in _COLUMNS] for verdict in verdicts]
        return pd.DataFrame(rows, index=records.index, columns=list(_COLUMNS))


def save(bundle: Path, out: Path) -> None:
    """Write a bundle as an MLflow model; the folder appears whole or not at all.

    Args:
        bundle: its folder.
        out: a folder that does not exist.

    Raises:
        BundleError: the bundle is refused, or takes no records without a site's profile.
        FileExistsError: there is something at `out` already.
        ModuleNotFoundError: MLflow is not installed.
        OSError: the folder cannot be written.
    """
    manifest = Bundle.read(bundle).manifest
    if manifest.adapted:
        raise BundleError(
            bundle, "its records need the profile of a site; see `classify --profile`"
        )
    if out.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(out))
    # Of its own accord, MLflow reports its use to its maker.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow.pyfunc  # noqa: PLC0415 - an extra

    draft = out.with_name(f".{out.name}-{secrets.token_hex(4)}")
    try:
        mlflow.pyfunc.save_model(
            str(draft),
            loader_module=__name__,
            data_path=str(bundle.resolve()),
            pip_requirements=[f"faultcube=={version('faultcube')}"],
            metadata={"bundle": manifest.name, "version": manifest.version},
        )
        draft.rename(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _load_pyfunc(path: str) -> BundleModel:
    """Load what `save` wrote; MLflow calls it by this name."""
    return BundleModel(Model.load(path))
