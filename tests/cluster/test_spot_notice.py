"""What a machine that AWS takes away tells Ray."""

import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import job
import pytest

RAY = """#!/usr/bin/env bash
printf '%s\\n' "$1" RAY_ADDRESS "$RAY_ADDRESS" "${@:2}" > "$TOLD.$(ls "$TOLD".* 2> /dev/null | wc -l)"
[ -e "$TOLD.1" ]  # the first call fails
"""


class Metadata(BaseHTTPRequestHandler):
    """The service's two pages, by the second version of its protocol."""

    token = notice = ""

    def do_PUT(self) -> None:
        assert int(self.headers["X-aws-ec2-metadata-token-ttl-seconds"]) > 0
        self._say(self.token if self.path == "/latest/api/token" else "")

    def do_GET(self) -> None:
        let_in = self.headers["X-aws-ec2-metadata-token"] == self.token
        self._say(self.notice if let_in and self.path == "/latest/meta-data/spot/instance-action" else "")

    def _say(self, page: str) -> None:
        self.send_response(200 if page else 404)
        self.end_headers()
        self.wfile.write(page.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Metadata) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/latest"
        server.shutdown()
        thread.join()


def test_a_notice_drains_the_machine(service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ray").write_text(RAY)
    (tmp_path / "ray").chmod(0o700)
    env = job.environment(METADATA=service, TOLD=str(tmp_path / "told"), SECONDS_BETWEEN="0.2")
    env["PATH"] = f"{tmp_path}:{env['PATH']}"
    with subprocess.Popen([job.ROOT / "deploy" / "spot_notice", "10.0.0.1:6379"], env=env) as process:
        try:
            # It fails, it knows of no notice, it says something without a time.
            for token, page in (("", ""), ("a token", ""), ("a token", '{"action": "terminate"}')):
                monkeypatch.setattr(Metadata, "token", token)
                monkeypatch.setattr(Metadata, "notice", page)
                time.sleep(0.7)
                assert process.poll() is None
                assert not list(tmp_path.glob("told*"))
            end = datetime.now(UTC) + timedelta(seconds=100)
            notice = f'{{"action": "terminate", "time": "{end:%Y-%m-%dT%H:%M:%SZ}"}}'
            monkeypatch.setattr(Metadata, "notice", notice)
            assert process.wait(timeout=20) == 0
        finally:
            process.kill()
    first, second = (file.read_text().splitlines() for file in sorted(tmp_path.glob("told.*")))
    assert second[:-1] == first[:-1]  # it was not accepted, and said again
    given = dict(zip(second[1::2], second[2::2], strict=True))
    assert 85 < int(given.pop("--deadline-remaining-seconds")) <= 100
    assert second[0] == "drain-node"
    assert given == {
        "--address": "10.0.0.1:6379",
        "RAY_ADDRESS": "10.0.0.1:6379",  # for the node, which is not looked for at --address
        "--reason": "DRAIN_NODE_REASON_PREEMPTION",
        "--reason-message": notice,
    }
