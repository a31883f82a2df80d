from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pyarrow.fs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.bundles.addresses import AddressError, files_of, shown, why

SECRET = st.text("abcXYZ019/+=?@:%", min_size=8, max_size=40)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("s3://bucket/folder", "s3://bucket/folder"),
        ("s3://id:secret@bucket/folder", "s3://bucket/folder"),
        ("s3://id:sec/re?t@bucket/folder?endpoint_override=http://x:1", "s3://bucket/folder"),
        ("s3://bucket/a@b?region=x", "s3://bucket/a@b"),
        ("hdfs://host:8020/folder", "hdfs://host:8020/folder"),
        ("/a/folder@home", "/a/folder@home"),
    ],
)
def test_an_address_is_shown_without_its_keys(address: str, expected: str) -> None:
    assert shown(address) == expected


@given(SECRET)
def test_no_secret_is_ever_shown_escaped_or_not(secret: str) -> None:
    for written in (secret, quote(secret, safe="")):
        address = f"s3://AKID:{written}@bucket/folder?scheme=http"
        assert secret not in shown(address)
        for text in (f"Cannot parse URI: '{address}'", f"{secret} or {written}\nmore"):
            line = why(OSError(text), address)
            assert "\n" not in line
            assert written not in line
            assert secret not in line


@pytest.mark.parametrize(
    "address",
    ["gopher://a/b", "s3://AKID:wrong/SECRET@bucket/b", "s3://AKID:wrongSECRET@bucket/b?odd=1"],
)
def test_what_is_no_address_is_told_in_a_line_without_its_keys(address: str) -> None:
    with pytest.raises(AddressError, match="is no address: ") as caught:
        files_of(address)
    assert "\n" not in str(caught.value)
    assert "SECRET" not in str(caught.value)


def test_a_path_is_an_address_too(tmp_path: Path) -> None:
    files, path = files_of(str(tmp_path))
    assert isinstance(files, pyarrow.fs.LocalFileSystem)
    assert (files, path) == files_of(f"file://{tmp_path}")
