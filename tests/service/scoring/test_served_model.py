from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.fuzz.toy import toy_bundle
from models import Bundle, Model, RecordError, Reference
from models.reference import REFERENCE
from service.scoring.scored import Scored
from service.scoring.served_model import ServedModel

Record = dict[str, Any]


@pytest.fixture
def model(bundle: Path) -> Model:
    return Model.load(bundle)


def with_reference(*records: Record, label: int) -> Model:
    """The toy model, calibrated on records of one class."""
    bundle = toy_bundle()
    matrix = Model(bundle).schema.encode(records)
    reference = Reference(matrix, np.full(len(records), label, np.int16))
    files = {**bundle.files, REFERENCE: reference.to_bytes()}
    content = bundle.manifest.model_dump(exclude={"version", "files", "format"})
    return Model(Bundle.make(files, **content))


def test_every_answer_names_the_bundle_and_the_revision(model: Model) -> None:
    served = ServedModel(model, 10, revision=42)
    version = model.manifest.version
    assert served.version == version
    assert served.headers == [
        (b"faultcube-bundle", f"toy/{version}".encode()),
        (b"faultcube-revision", b"42"),
    ]
    assert (b"faultcube-revision", b"0") in ServedModel(model, 10).headers


def test_a_json_response_begins_with_the_bundle(model: Model) -> None:
    served = ServedModel(model, 10)
    assert served.bundle == {"name": "toy", "version": model.manifest.version}
    assert json.loads(served.json_prefix + b'"results":[]}') == {
        "bundle": served.bundle,
        "results": [],
    }


def test_only_verdicts_have_options(model: Model, good: Record) -> None:
    served = ServedModel(model, 10)
    body = json.dumps({"records": [good], "distances": True}).encode()
    assert served.classify_decoder.read(body).options == {"distances": True, "explain": False}
    with pytest.raises(RecordError, match="'distances'"):
        list(served.embed_decoder.read(body).chunks)


def test_both_decoders_take_as_many_records_as_are_allowed(model: Model, good: Record) -> None:
    served = ServedModel(model, 2)
    for decoder in (served.classify_decoder, served.embed_decoder):
        body = json.dumps({"records": [good] * 2}).encode()
        assert sum(map(len, decoder.read(body).chunks)) == 2
        with pytest.raises(RecordError, match="a list of 1 to 2 records"):
            list(decoder.read(json.dumps({"records": [good] * 3}).encode()).chunks)


def test_nothing_is_explained_without_records_of_good_traffic(
    model: Model, good: Record, down: Record
) -> None:
    assert ServedModel(model, 10).explainer is None
    assert ServedModel(with_reference(down, down, label=1), 10).explainer is None
    explainer = ServedModel(with_reference(good, good, label=0), 10).explainer
    assert explainer is not None
    np.testing.assert_array_equal(explainer.typical, model.schema.encode([good])[0])


def test_the_explainer_is_made_once(good: Record) -> None:
    served = ServedModel(with_reference(good, label=0), 10)
    assert served.explainer is served.explainer


def test_whoever_changes_the_list_of_observers_does_not_change_the_model(model: Model) -> None:
    seen: list[Scored] = []
    observers = [seen.append]
    served = ServedModel(model, 10, observers=observers)
    observers.clear()
    assert len(served.observers) == 1
