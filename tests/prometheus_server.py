"""A real Prometheus for tests: its own folder and port, stopped at the end."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

DEADLINE_S = 60.0  # a start takes about a second; a shared machine may be busy
_POLL_S = 0.1


def executable(name: str) -> str:
    """Return the path of `prometheus` or `promtool`; skips where absent, but fails where `CI=true`."""
    found = shutil.which(name)
    if found is not None:
        return found
    text = f"{name} is not installed; apt install prometheus"
    if os.environ.get("CI") == "true":
        pytest.fail(text)
    pytest.skip(text)


def eventually(what: str, holds: Callable[[], bool], seconds: float = DEADLINE_S) -> None:
    """Poll until `holds`; fails after `seconds`, saying what was awaited."""
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            pytest.fail(f"waited {seconds:g} s in vain: {what}")
        time.sleep(_POLL_S)


@dataclass(frozen=True, slots=True)
class PrometheusServer:
    """A running Prometheus, asked through its HTTP API."""

    url: str

    def api(self, path: str, **parameters: str) -> Any:
        """Return `data` of an API answer.

        Raises:
            AssertionError: Prometheus says the request is wrong, e.g. an expression that does not parse.
        """
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=10) as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def value(self, expression: str) -> float | None:
        """Return the value of an expression with one result now; None when it has none."""
        result = self.api("query", query=expression)["result"]
        return float(result[0]["value"][1]) if result else None

    def series(self, expression: str, start_s: float, end_s: float) -> list[list[float]]:
        """Return the values of each series of an expression, second by second."""
        result = self.api("query_range", query=expression, start=f"{start_s:.3f}", end=f"{end_s:.3f}", step="1")[
            "result"
        ]
        return [[float(value) for _, value in each["values"]] for each in result]

    def ready(self) -> bool:
        """Tell whether it serves queries."""
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=2) as response:
                return bool(response.status == 200)
        except OSError:
            return False


@contextmanager
def prometheus(configuration: str, folder: Path) -> Iterator[PrometheusServer]:
    """Run Prometheus with this configuration, its data in `folder`, on a free port of 127.0.0.1."""
    program = executable("prometheus")
    (folder / "prometheus.yml").write_text(configuration)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn",
    ]  # fmt: skip
    server = PrometheusServer(f"http://127.0.0.1:{port}")
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            eventually("Prometheus is ready", lambda: _running(process, folder) and server.ready())
            yield server
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _running(process: subprocess.Popen[bytes], folder: Path) -> bool:
    if process.poll() is not None:
        pytest.fail(f"Prometheus ended: {(folder / 'log').read_text()}")
    return True
