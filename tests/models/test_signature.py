from __future__ import annotations

import base64
import json
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.bundle import Bundle, BundleError
from models.model import Model
from models.signature import KeyFileError, TrustedKeys, new_key, sign


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "fleet.key"
    (tmp_path / "fleet.pub").write_text(f"# of the fleet\n\n{new_key(path)}  # 2026\n")
    return path


@pytest.fixture
def trusted(key: Path) -> TrustedKeys:
    return TrustedKeys.parse(str(key.with_suffix(".pub")))


def refusal(folder: Path, trusted: TrustedKeys) -> str:
    with pytest.raises(BundleError) as caught:
        Bundle.read(folder, trusted=trusted)
    assert "\n" not in str(caught.value)
    with pytest.raises(BundleError):
        Model.load(folder, trusted=trusted)
    return caught.value.reason


def test_a_signed_bundle_is_read_by_whoever_trusts_the_key(
    folder: Path, bundle: Bundle, key: Path, trusted: TrustedKeys
) -> None:
    assert trusted.keys == (sign(folder, key),)
    assert Bundle.read(folder, trusted=trusted) == bundle == Bundle.read(folder)
    assert Model.load(folder, trusted=trusted).manifest == bundle.manifest


def test_a_bundle_without_a_signature_is_refused_only_where_keys_are_trusted(
    folder: Path, bundle: Bundle, trusted: TrustedKeys
) -> None:
    assert refusal(folder, trusted) == "it is not signed: there is no manifest.sig"
    assert Bundle.read(folder) == bundle


def test_any_of_several_keys_will_do_and_no_other(folder: Path, key: Path, tmp_path: Path) -> None:
    old, new = sign(folder, key), new_key(tmp_path / "next.key")
    Bundle.read(folder, trusted=TrustedKeys.parse(f"{new}, {old}"))
    assert refusal(folder, TrustedKeys((new,))) == (
        f"it is signed with the key {old!r}, which is not trusted"
    )
    assert sign(folder, tmp_path / "next.key") == new
    Bundle.read(folder, trusted=TrustedKeys((new,)))


@pytest.mark.parametrize(
    "name", ["card.md", "encoder.onnx", "examples.json", "figures/map.svg", "manifest.json"]
)
def test_a_byte_of_any_file_that_changes_after_it_was_signed_refuses_the_bundle(
    folder: Path, key: Path, trusted: TrustedKeys, name: str
) -> None:
    sign(folder, key)
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    assert refusal(folder, trusted).startswith(f"{name} ")


def test_a_manifest_that_was_made_again_needs_a_signature_of_its_own(
    folder: Path, bundle: Bundle, key: Path, trusted: TrustedKeys, tmp_path: Path
) -> None:
    sign(folder, key)
    content = bundle.manifest.model_dump(exclude={"version", "files", "format"})
    Bundle.make(bundle.files, **(content | {"about": "forged"})).write(tmp_path / "forged")
    assert Bundle.read(tmp_path / "forged").manifest.about == "forged"
    shutil.copy(folder / "manifest.sig", tmp_path / "forged/manifest.sig")
    assert refusal(tmp_path / "forged", trusted) == (
        "manifest.json or manifest.sig was altered: the signature does not fit"
    )


@given(st.binary(max_size=200) | st.text("ABab01+/= \n", max_size=140).map(str.encode))
def test_nothing_but_a_signature_is_one(signature: bytes) -> None:
    own = base64.b64encode(bytes(range(32))).decode()
    for text in (signature, own.encode() + b" " + signature):
        fault = TrustedKeys((own,)).fault(b"{}", text)
        assert fault is not None
        assert "\n" not in fault


def test_a_file_that_cannot_be_a_signature_refuses_the_bundle(
    folder: Path, trusted: TrustedKeys
) -> None:
    (folder / "manifest.sig").write_bytes(b" " * 2000)
    assert refusal(folder, trusted).startswith("manifest.sig cannot be read (it has 2000 bytes")
    (folder / "manifest.sig").unlink()
    (folder / "manifest.sig").mkdir()
    assert refusal(folder, trusted) == "manifest.sig cannot be read (Is a directory)"


def test_an_altered_bundle_is_not_signed(folder: Path, key: Path) -> None:
    (folder / "card.md").write_text("forged")
    with pytest.raises(BundleError, match=r"card\.md was altered"):
        sign(folder, key)
    assert not (folder / "manifest.sig").exists()


def test_what_is_loaded_is_what_was_verified_however_the_files_change_meanwhile(
    folder: Path, bundle: Bundle, key: Path, trusted: TrustedKeys
) -> None:
    """Each file is exchanged as soon as it was read, so a second look would find another one."""
    sign(folder, key)

    def read(name: str, most: int) -> bytes:
        data = (folder / name).read_bytes()
        assert len(data) <= most
        (folder / name).write_bytes(b"exchanged")
        return data

    assert Bundle.of(read, folder, trusted=trusted) == bundle
    assert (folder / "encoder.onnx").read_bytes() == b"exchanged"


def test_a_private_key_is_for_its_owner_alone_and_never_replaced(key: Path) -> None:
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = key.read_bytes()
    with pytest.raises(FileExistsError):
        new_key(key)
    assert key.read_bytes() == before


def openssl(*arguments: str, cwd: Path) -> None:
    try:
        subprocess.run(["openssl", *arguments], cwd=cwd, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")


def test_openssl_agrees_and_its_keys_can_be_used(folder: Path, tmp_path: Path) -> None:
    openssl("genpkey", "-algorithm", "ed25519", "-out", "its.key", cwd=tmp_path)
    openssl("pkey", "-in", "its.key", "-pubout", "-out", "its.pub", cwd=tmp_path)
    sign(folder, tmp_path / "its.key")
    _, signature = (folder / "manifest.sig").read_text().split()
    (tmp_path / "raw").write_bytes(base64.b64decode(signature))
    verify = [
        "pkeyutl",
        "-verify",
        "-pubin",
        "-inkey",
        "its.pub",
        "-rawin",
        "-sigfile",
        "raw",
        "-in",
    ]
    openssl(*verify, str(folder / "manifest.json"), cwd=tmp_path)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("-algorithm x25519", "is no Ed25519 key: make one with faultcube sign --new-key"),
        ("-algorithm ed25519 -aes256 -pass pass:x", "has a password: give a key without one"),
    ],
)
def test_other_keys_of_openssl_are_refused(
    folder: Path, tmp_path: Path, options: str, complaint: str
) -> None:
    openssl("genpkey", *options.split(), "-out", "its.key", cwd=tmp_path)
    with pytest.raises(KeyFileError, match=complaint):
        sign(folder, tmp_path / "its.key")


def test_what_is_no_private_key_is_refused(folder: Path, key: Path, tmp_path: Path) -> None:
    for path, complaint in [
        (key.with_suffix(".pub"), "is no private key in PEM"),
        (tmp_path / "nowhere", "cannot be read"),
        (tmp_path, "cannot be read"),
    ]:
        with pytest.raises(KeyFileError, match=complaint):
            sign(folder, path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, r"'keys' is neither a public key nor a file of them \(No such file"),
        (b"\xff", r"'keys' is neither a public key nor a file of them \(it is no text"),
        (b"# none\n\n", "the file 'keys' holds no public key"),
        (b"c2hvcnQ=\n", "the file 'keys' holds a line that is no public key"),
    ],
)
def test_what_names_no_keys_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("keys").write_bytes(content)
    for text in ("keys", f"{base64.b64encode(bytes(32)).decode()},keys"):
        with pytest.raises(KeyFileError, match=complaint):
            TrustedKeys.parse(text)


def test_keys_are_written_as_they_are_parsed(trusted: TrustedKeys) -> None:
    assert TrustedKeys.parse(str(trusted)) == trusted
    assert TrustedKeys.parse(f"{trusted},{trusted}") == trusted


def test_the_manifest_of_the_bundle_that_ships_lists_all_its_files() -> None:
    folder = Path(__file__).parents[2] / "models/iosxr"
    listed = json.loads((folder / "manifest.json").read_bytes())["files"]
    files = {f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()}
    assert files - {"manifest.json", "manifest.sig"} == set(listed)
