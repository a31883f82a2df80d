"""What the OpenAPI document says, against a real service: every check that schemathesis has."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from tests.support.running import environment, running

KEY = "an admin key"


def test_the_service_does_what_its_document_says(root: Path, tmp_path: Path) -> None:
    programs = Path(sys.executable).parent
    env = environment(
        PATH=f"{programs}{os.pathsep}{os.environ['PATH']}",
        PYTHONPATH=str(Path(__file__).parents[1] / "support"),
        SCHEMATHESIS_HOOKS="reports",
        FAULTCUBE_PORT="0",
        FAULTCUBE_ADMIN_KEYS=hashlib.sha256(KEY.encode()).hexdigest(),
        FAULTCUBE_DATABASE_URL=f"sqlite:///{tmp_path / 'classes.sqlite'}",
        # The document's longest list has to fit into the longest body, and to be explained.
        FAULTCUBE_MAX_RECORDS="100",
    )
    with running("faultcube serve", cwd=root, env=env, seconds=60) as (service, url):
        done = subprocess.run(
            [
                "schemathesis", "run", f"{url}/openapi.json", "--checks", "all", "--no-color",
                # It never ends, and so tells nothing; tests/service/api/test_live.py looks at it.
                "--exclude-path", "/live/events",
                "--max-examples", "15", "--seed", "1", "--header", f"X-API-Key: {KEY}",
            ],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert "failed" not in done.stdout, done.stdout
        assert service.process.poll() is None
        assert "Traceback" not in service.output
