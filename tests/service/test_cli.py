"""The command line, as a process of its own where it serves, and in this one where it refuses."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import typer
from typer.testing import CliRunner, Result

from service.cli import serve, settings, sign, verify
from service.settings import as_markdown
from tests.support.bundles import put_looping_bundle
from tests.support.certificates import self_signed

PROGRAM = """
import typer
from service.cli import serve, settings, sign, verify
app = typer.Typer(pretty_exceptions_enable=False)
app.command("serve")(serve)
app.command("settings")(settings)
app.command("sign")(sign)
app.command("verify")(verify)
app()
"""
COMMAND = [sys.executable, "-c", PROGRAM]


def command(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | environment,
    )


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a command that ends by itself in this process: to start one takes a second each time."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr("service.server.workers.run", lambda *_: pytest.fail("it serves"))
    app = typer.Typer(pretty_exceptions_enable=False)
    for each in (serve, settings, sign, verify):
        app.command(each.__name__)(each)

    def run(*arguments: object, **environment: str) -> Result:
        return CliRunner().invoke(app, [*map(str, arguments)], env=environment)

    return run


class Running:
    """A server that runs, with the lines it printed when it listened."""

    def __init__(self, process: subprocess.Popen[str], greeting: str, curl: str) -> None:
        self.process, self.greeting, self.curl = process, greeting, curl
        self.url = greeting.partition(" on ")[2].partition(" ")[0]
        self.address = ("127.0.0.1", int(self.url.rpartition(":")[2]))

    def stop(self, how: signal.Signals = signal.SIGTERM) -> str:
        """End it and give its log."""
        self.process.send_signal(how)
        return self.process.communicate(timeout=15)[1]


Start = Callable[..., Running]


@pytest.fixture
def start() -> Iterator[Start]:
    processes = []

    def run(bundle: Path, **environment: str) -> Running:
        process = subprocess.Popen(
            [*COMMAND, "serve", str(bundle), "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=bundle.parent,
            env=os.environ | environment,
        )
        processes.append(process)
        assert process.stdout
        return Running(process, process.stdout.readline(), process.stdout.readline())

    yield run
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_serve_greets_with_a_request_that_works_and_ends_quietly_on_a_signal(
    start: Start, bundle: Path, how: signal.Signals
) -> None:
    running = start(bundle, FAULTCUBE_LOG_REQUESTS="all")
    assert running.greeting == f"Faultcube serves toy on {running.url} (docs: /docs)\n"
    words = shlex.split(running.curl)
    assert words[:3] == ["curl", "-s", f"{running.url}/classify"]
    assert words[-2:] == ["--data", "@toy/examples.json"]
    content = (bundle / "examples.json").read_bytes()
    answer = httpx2.post(words[2], content=content, headers=dict([words[4].split(": ")]))
    assert len(answer.json()["results"]) == 3
    assert "server" not in answer.headers
    log = running.stop(how)
    assert running.process.returncode == 0
    lines = [json.loads(line) for line in log.splitlines()]
    assert {"info"} == {line["level"] for line in lines}
    assert "Traceback" not in log
    (request,) = [line for line in lines if line.get("path") == "/classify"]
    assert (request["status"], request["records"]) == (200, 3)


HOMELESS = """
import os, pwd
def unknown(_):
    raise KeyError
pwd.getpwuid = unknown
os.environ.pop("HOME", None), os.environ.pop("XDG_STATE_HOME", None)
"""


@pytest.mark.parametrize(
    ("admin", "status", "said"),
    [("", 0, ""), ("a" * 64, 2, "faultcube: FAULTCUBE_DATABASE_URL: is not set, and this user")],
)
def test_a_user_without_a_home_is_served_or_told_what_to_set(
    bundle: Path, admin: str, status: int, said: str
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOMELESS + PROGRAM, "serve", str(bundle), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"FAULTCUBE_ADMIN_KEYS": admin},
    )
    assert process.stdout
    served = process.stdout.readline().startswith("Faultcube serves ")
    process.terminate()
    _, log = process.communicate(timeout=15)
    assert (served, process.returncode) == (status == 0, status)
    assert log.startswith(said)
    assert "Traceback" not in log
    assert served or log.count("\n") == 1


def test_a_key_is_made_a_bundle_signed_and_the_signature_verified(
    bundle: Path, tmp_path: Path
) -> None:
    folder, key = tmp_path / "toy", tmp_path / "fleet.key"
    shutil.copytree(bundle, folder)
    public = command("sign", "--new-key", key).stdout
    (tmp_path / "fleet.pub").write_text(public)
    keys = str(tmp_path / "fleet.pub")

    unsigned = command("verify", folder, FAULTCUBE_TRUSTED_KEYS=keys)
    assert (unsigned.returncode, unsigned.stdout) == (2, "")
    assert unsigned.stderr == (
        f"faultcube: bundle {folder} is refused: it is not signed: there is no manifest.sig\n"
    )
    signed = command("sign", folder, "--key", key)
    assert (signed.returncode, signed.stdout) == (0, "")
    assert signed.stderr == f"{folder} is signed with the key of {public}"
    verified = command("verify", folder, "--keys", keys)
    assert verified.returncode == 0
    version = json.loads((folder / "manifest.json").read_bytes())["version"]
    assert verified.stdout == f"{folder} is toy {version}, as it was signed\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sign"], "give a bundle and --key FILE, or --new-key FILE alone"),
        (["sign", "toy"], "give a bundle and --key FILE, or --new-key FILE alone"),
        (["sign", "toy", "--key", "nowhere"], "nowhere cannot be read (No such file"),
        (["sign", "--new-key", "nowhere/key"], "nowhere/key cannot be written (No such file"),
        (["verify", "toy", "--keys", "nowhere"], "'nowhere' is neither a public key nor a file"),
    ],
)
def test_what_cannot_be_signed_or_verified_is_told_in_a_line(
    invoke: Callable[..., Result], arguments: list[str], said: str
) -> None:
    refused = invoke(*arguments)
    assert refused.exit_code == 2
    assert refused.stderr.startswith(f"faultcube: {said}")
    assert refused.stderr.count("\n") == 1


def test_copies_of_bundles_need_a_folder_that_is_no_bundle_and_can_be_written(
    invoke: Callable[..., Result], bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    for folder, said in [
        (bundle, f"{bundle} is one bundle; what FAULTCUBE_BUNDLES_FROM names is copied into a"),
        (tmp_path / "file/x", f"no folder {tmp_path}/file/x can be made (Not a directory)"),
    ]:
        refused = invoke("serve", folder, FAULTCUBE_BUNDLES_FROM="s3://id:secret@bucket/models")
        assert refused.exit_code == 2
        assert refused.stderr.startswith(f"faultcube: FAULTCUBE_BUNDLE: {said}")
        assert refused.stderr.count("\n") == 1
        assert "secret" not in refused.stderr


# A thread that never ends is waited for at each end: for half a second, not for two.
UNTRIED = """
import json
from service.bundles.trial import TrialLoader
from service.runtime import state
version_in = lambda path: json.loads(path.read_bytes())["version"]
TrialLoader.version = lambda _, folder: version_in(folder / "manifest.json")
state._STOP_SECONDS = 0.5
"""


@pytest.mark.parametrize(("before", "times"), [("", 2), (UNTRIED, 7)])
def test_a_signal_while_a_bundle_loads_ends_the_service_in_time_and_with_0(
    bundle: Path, tmp_path: Path, before: str, times: int
) -> None:
    """At several moments: in the trial, or inside onnxruntime in this process."""
    put_looping_bundle(bundle, tmp_path / "endless")
    for number in range(times):
        process = subprocess.Popen(
            [sys.executable, "-c", before + PROGRAM, "serve", tmp_path / "endless", "--port", "0"],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"FAULTCUBE_GRACE_SECONDS": "3"},
        )
        assert process.stderr
        while "Application startup complete" not in process.stderr.readline():
            assert process.poll() is None
        time.sleep(number / 5)
        process.terminate()
        _, log = process.communicate(timeout=30)
        assert process.returncode == 0, log
        assert '"level": "error"' not in log
    assert str(tmp_path / "endless") not in commands()


def commands() -> str:
    """The command lines of all processes."""
    found = [file.read_bytes() for file in Path("/proc").glob("[0-9]*/cmdline")]
    return b"\n".join(found).decode(errors="replace")


def test_a_body_over_the_limit_is_cut_off_on_a_real_connection(start: Start, bundle: Path) -> None:
    running = start(bundle, FAULTCUBE_MAX_BODY_BYTES="2048")
    head = b"POST /classify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(running.address, timeout=10) as connection:
        connection.sendall(head + b"1000\r\n" + b" " * 4096 + b"\r\n")
        answer = b""
        while received := connection.recv(65536):
            answer += received
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()


@pytest.mark.alone
def test_a_slow_body_and_a_vanished_client_disturb_nobody(
    start: Start, bundle: Path, good: dict[str, Any]
) -> None:
    running = start(bundle, FAULTCUBE_BODY_SECONDS="1")
    head = b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"
    answers: list[bytes] = []

    def dawdle() -> None:
        with socket.create_connection(running.address, timeout=10) as connection:
            connection.sendall(head)
            answers.append(connection.recv(65536))

    slow = threading.Thread(target=dawdle)
    slow.start()
    with socket.create_connection(running.address, timeout=10) as connection:
        connection.sendall(head)
    begun = time.perf_counter()
    assert httpx2.get(running.url + "/livez").status_code == 200
    answer = httpx2.post(running.url + "/classify", json={"records": [good]})
    assert answer.status_code == 200
    assert time.perf_counter() - begun < 1
    slow.join(10)
    assert answers[0].startswith(b"HTTP/1.1 408 ")
    log = running.stop()
    assert {json.loads(line)["level"] for line in log.splitlines()} == {"info"}


def test_a_refused_bundle_leaves_the_process_up_and_the_reason_in_the_log(
    start: Start, make_bundle: Callable[[], Path]
) -> None:
    folder = make_bundle()
    (folder / "encoder.onnx").write_bytes(b"")
    running = start(folder)
    assert httpx2.get(running.url + "/livez").status_code == 200
    assert httpx2.get(running.url + "/readyz").status_code == 503
    log = running.stop()
    (refusal,) = [
        line for line in map(json.loads, log.splitlines()) if line["event"] == "bundle refused"
    ]
    assert refusal["level"] == "error"
    assert "encoder.onnx was altered" in refusal["reason"]
    assert running.process.returncode == 0


def trusting(cert: Path) -> httpx2.Client:
    """A client that trusts one certificate."""
    return httpx2.Client(verify=ssl.create_default_context(cafile=str(cert)), timeout=10)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_with_a_certificate_https_is_spoken_and_nothing_else(
    start: Start, bundle: Path, tmp_path: Path, good: dict[str, Any], workers: str
) -> None:
    cert, key = self_signed(tmp_path)
    files = {"FAULTCUBE_TLS_CERT": str(cert), "FAULTCUBE_TLS_KEY": str(key)}
    running = start(bundle, FAULTCUBE_WORKERS=workers, **files)
    assert running.url.startswith("https://127.0.0.1:")
    with trusting(cert) as client:
        answer = client.post(running.url + "/classify", json={"records": [good]})
        assert answer.json()["results"][0]["label"] == "normal"
    with pytest.raises(httpx2.TransportError):
        httpx2.get(running.url.replace("https", "http") + "/livez")
    running.stop()
    assert running.process.returncode == 0


def test_who_does_not_begin_to_encrypt_is_cut_off(
    start: Start, bundle: Path, tmp_path: Path
) -> None:
    cert, key = self_signed(tmp_path)
    files = {"FAULTCUBE_TLS_CERT": str(cert), "FAULTCUBE_TLS_KEY": str(key)}
    running = start(bundle, FAULTCUBE_HEADER_SECONDS="1", **files)
    context = ssl.create_default_context(cafile=str(cert))
    begun = time.monotonic()
    with (
        socket.create_connection(running.address, timeout=10) as silent,
        socket.create_connection(running.address, timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as hanging,
    ):
        hanging.sendall(b"GET /livez HT")
        assert hanging.recv(1 << 16).startswith(b"HTTP/1.1 408 ")
        assert silent.recv(1 << 16) == b""
    assert time.monotonic() - begun < 8


def test_a_port_that_is_taken_is_an_error_without_a_traceback(bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = command("serve", bundle, "--port", taken.getsockname()[1])
    assert done.returncode == 2
    assert done.stderr.startswith("faultcube: cannot listen on 127.0.0.1 port ")
    assert done.stderr.count("\n") == 1
    assert not done.stdout


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["no such folder"], {}, "faultcube: no folder 'no such folder' can be read"),
        ([__file__], {}, "faultcube: no folder "),
        ([], {"FAULTCUBE_BUNDLE": "nowhere"}, "faultcube: no folder nowhere can be read"),
        ([], {"FAULTCUBE_PORT": "x"}, "faultcube: FAULTCUBE_PORT: Input should be a valid integer"),
        ([], {"FAULTCUBE_THREADS": "0"}, "faultcube: FAULTCUBE_THREADS: "),
        ([], {"FAULTCUBE_WORKERS": "0"}, "faultcube: FAULTCUBE_WORKERS: "),
        ([], {"FAULTCUBE_TLS_CERT": "a"}, "faultcube: FAULTCUBE_TLS_KEY: is not set"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_line_with_exit_code_2(
    invoke: Callable[..., Result],
    arguments: list[str],
    environment: dict[str, str],
    message: str,
) -> None:
    done = invoke("serve", *arguments, **environment)
    assert done.exit_code == 2
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


def test_a_misspelt_variable_is_told_in_one_line_when_the_service_starts(
    invoke: Callable[..., Result], tmp_path: Path
) -> None:
    done = invoke("serve", tmp_path / "none", FAULTCUBE_PROT="80", FAULTCUBE_KEY="x")
    warned, refused = done.stderr.splitlines()
    assert warned.startswith("faultcube: FAULTCUBE_PROT is no setting and is ignored; did you mean")
    assert warned.endswith("FAULTCUBE_PORT?")
    assert refused.startswith("faultcube: no folder ")


def test_a_port_that_is_none_is_refused(invoke: Callable[..., Result], bundle: Path) -> None:
    done = invoke("serve", bundle, "--port", "70000")
    assert done.exit_code == 2
    assert "Traceback" not in done.stderr


def test_settings_prints_the_table(invoke: Callable[..., Result]) -> None:
    assert invoke("settings").stdout == as_markdown() + "\n"


def test_help_needs_none_of_the_services_libraries() -> None:
    program = "import sys; import service.cli; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert not {"fastapi", "onnxruntime", "uvicorn", "structlog", "numpy"} & loaded


def test_a_key_is_made_with_the_hash_that_the_service_is_told() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from models.cli import main; main()", "key"],
        capture_output=True,
        text=True,
        check=True,
    )
    (_, key), (_, digest) = map(str.split, done.stdout.splitlines())
    assert hashlib.sha256(key.encode()).hexdigest() == digest


def test_a_database_that_is_damaged_is_refused_and_left_as_it_is(
    bundle: Path, tmp_path: Path
) -> None:
    file = tmp_path / "classes.sqlite"
    file.write_bytes(b"no database" * 100)
    done = command("serve", bundle, FAULTCUBE_DATABASE_URL=f"sqlite:///{file}", FAULTCUBE_PORT="0")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert str(file) in line
    assert "restore a backup, or move it away" in line
    assert file.read_bytes() == b"no database" * 100
    assert [*tmp_path.iterdir()] == [file]


def test_a_killed_service_knows_what_it_has_acknowledged(
    start: Start, bundle: Path, tmp_path: Path
) -> None:
    key = "an admin key"
    environment = {
        "FAULTCUBE_DATABASE_URL": f"sqlite:///{tmp_path / 'classes.sqlite'}",
        "FAULTCUBE_ADMIN_KEYS": hashlib.sha256(key.encode()).hexdigest(),
    }
    record = {"cpu load": 70.0, "link up": False, "state": "idle"}
    told: list[str] = []
    for turn in range(3):
        server = start(bundle, **environment)
        with httpx2.Client(base_url=server.url, headers={"X-API-Key": key}) as client:
            known = {each["name"] for each in client.get("/classes").json()["classes"]}
            assert known >= {*told}
            killer = threading.Timer(0.3, server.process.kill)
            killer.start()
            for number in range(10_000):
                name = f"c{turn}-{number}"
                try:
                    body = {"name": name, "records": [record]}
                    answer = client.post("/classes?force=true", json=body)
                except httpx2.TransportError:
                    break
                assert answer.status_code == 201, answer.text
                told.append(name)
            killer.join()
    assert len(told) > 3
