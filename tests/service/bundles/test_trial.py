from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from models import BundleError
from models.signature import TrustedKeys, new_key, sign
from service.bundles.trial import StoppedError, TrialLoader
from tests.support.bundles import put_greedy_bundle, put_looping_bundle

Put = Callable[..., str]
Program = Callable[[str], None]


def trial(seconds: float = 60, most_bytes: int = 1 << 30) -> TrialLoader:
    return TrialLoader(seconds, most_bytes, threads=1)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Put a shell script in the place of the process that tries a bundle."""

    def use(script: str) -> None:
        file = tmp_path / "python"
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr("service.bundles.trial.sys.executable", str(file))

    return use


def test_a_sound_bundle_is_loaded(root: Path, put: Put) -> None:
    version = put("a")
    assert trial().version(root / "a") == version
    assert trial().load(root / "a").manifest.version == version


def test_with_trusted_keys_the_process_refuses_what_none_of_them_has_signed(
    root: Path, put: Put, tmp_path: Path
) -> None:
    version, key = put("a"), TrustedKeys((new_key(tmp_path / "key"),))
    trying = TrialLoader(60, 1 << 30, 1, key)
    with pytest.raises(BundleError, match="it is not signed"):
        trying.version(root / "a")
    sign(root / "a", tmp_path / "key")
    assert trying.version(root / "a") == version
    assert trying.load(root / "a").manifest.version == version


def test_a_signature_that_is_gone_after_the_trial_refuses_the_bundle(
    root: Path, put: Put, program: Program, tmp_path: Path
) -> None:
    version, key = put("a"), TrustedKeys((new_key(tmp_path / "key"),))
    program(f"""echo '{{"version": "{version}"}}'""")
    with pytest.raises(BundleError, match="it is not signed"):
        TrialLoader(60, 1 << 30, 1, key).load(root / "a")


@pytest.mark.parametrize("file", ["encoder.onnx", "examples.json", "manifest.json"])
def test_an_unsound_bundle_is_refused_with_its_reason(root: Path, put: Put, file: str) -> None:
    put("a")
    (root / "a" / file).write_bytes(b"spoilt")
    with pytest.raises(BundleError, match=rf"{re.escape(str(root / 'a'))} is refused: {file} "):
        trial().load(root / "a")


def test_a_graph_that_never_ends_took_too_long(bundle: Path, root: Path) -> None:
    put_looping_bundle(bundle, root / "a")
    with pytest.raises(BundleError) as caught:
        trial(2).load(root / "a")
    assert caught.value.reason == "it took too long: more than 2 s to be loaded"


def test_a_graph_that_takes_all_memory_is_refused(bundle: Path, root: Path) -> None:
    version = put_greedy_bundle(bundle, root / "a", takes=1 << 28)
    assert trial(most_bytes=1 << 30).version(root / "a") == version
    with pytest.raises(BundleError):
        trial(most_bytes=1 << 27).load(root / "a")


def test_a_process_that_crashes_refuses_the_bundle(root: Path, program: Program) -> None:
    program("kill -SEGV $$")
    with pytest.raises(BundleError, match="tried to load it ended with SIGSEGV"):
        trial().load(root)
    program("exit 3")
    with pytest.raises(BundleError, match="tried to load it ended with status 3"):
        trial().load(root)


def test_a_process_that_uses_up_its_own_time_took_too_long(root: Path, program: Program) -> None:
    program("kill -XCPU $$")
    with pytest.raises(BundleError, match="it took too long: more than 60 s"):
        trial().load(root)


def test_a_process_that_cannot_be_started_refuses_the_bundle(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.bundles.trial.sys.executable", str(root / "nowhere"))
    with pytest.raises(BundleError, match="no process can be started"):
        trial().load(root)


def test_a_bundle_that_is_exchanged_after_its_trial_is_not_loaded(
    root: Path, put: Put, program: Program
) -> None:
    put("a")
    program("""echo '{"version": "0123456789abcdef"}'""")
    with pytest.raises(BundleError, match="it was exchanged while it was being loaded"):
        trial().load(root / "a")


def test_the_end_of_the_service_ends_a_trial_and_refuses_nothing(bundle: Path, root: Path) -> None:
    put_looping_bundle(bundle, root / "a")
    trying = trial(600)
    threading.Timer(1, trying.stop).start()
    with pytest.raises(StoppedError, match="the service is ending"):
        trying.load(root / "a")
    with pytest.raises(StoppedError):
        trying.load(root / "a")


def test_no_process_outlives_its_trial(root: Path, program: Program, tmp_path: Path) -> None:
    program(f"echo $$ > {tmp_path / 'pid'}; exec sleep 600")
    with pytest.raises(BundleError, match="took too long"):
        trial(2).load(root)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_process_whose_service_was_killed_ends_itself(bundle: Path, root: Path) -> None:
    put_looping_bundle(bundle, root / "a")
    command = [
        sys.executable,
        "-m",
        "service.bundles.trial",
        str(root / "a"),
        "1",
        "1",
        str(1 << 30),
    ]
    done = subprocess.run(command, check=False, timeout=120)
    assert done.returncode < 0


def test_the_process_gets_no_secrets(
    root: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULTCUBE_WEBHOOK_SECRET", "hush")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    program(f"env > {root / 'environment'}; exit 1")
    with pytest.raises(BundleError):
        trial().load(root)
    assert "PATH=" in (root / "environment").read_text()
    assert "hush" not in (root / "environment").read_text()


def test_the_process_loads_little_more_than_the_model() -> None:
    program = "import sys, service.bundles.trial; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "onnxruntime" in loaded
    assert not {"fastapi", "msgspec", "watchfiles", "prometheus_client", "sqlalchemy"} & loaded
