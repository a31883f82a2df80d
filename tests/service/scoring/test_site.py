from __future__ import annotations

import numpy as np

from models import FieldError
from models.profile import Adaptation
from models.schema import Matrix
from service.formats.chunk import Chunk
from service.scoring.site import Site

HEADER = (b"faultcube-profile", b"north@1")


def test_chunks_are_adapted_and_shown_as_they_were_sent() -> None:
    seen: list[Matrix] = []
    adapt = Adaptation(np.array([2.0, 1.0]), np.array([-1.0, 0.0]))
    chunk = Chunk(np.array([[1, 2], [np.nan, 4]], np.float32), {1: FieldError(1, "a", "b", "c")})
    (read,) = Site(HEADER, adapt, seen.append).read(iter([chunk]))
    np.testing.assert_array_equal(read.matrix, [[1, 2], [np.nan, 4]])
    assert read.faults == chunk.faults
    assert read.matrix.dtype == np.float32
    assert seen[0] is chunk.matrix


def test_without_a_profile_chunks_stay_as_they_are() -> None:
    seen: list[Matrix] = []
    chunks = [Chunk(np.zeros((n, 2), np.float32)) for n in (1, 0, 3)]
    assert list(Site(HEADER, None, seen.append).read(iter(chunks))) == chunks
    assert [len(matrix) for matrix in seen] == [1, 0, 3]
