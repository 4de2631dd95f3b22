"""A real S3 server on loopback, which checks every signature; one folder of it is one bucket."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

KEY_ID, SECRET, BUCKET = "tester", "not-a-secret", "box"


class S3Server:
    """Started by the constructor; `stop` ends it, `start` starts it again on the same port and data."""

    def __init__(self) -> None:
        self.data = Path(tempfile.mkdtemp(prefix="agentbus-s3-"))
        (self.data / BUCKET).mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        words = ["serve", "--host", "127.0.0.1", "--port", str(self.port), "--data-dir", str(self.data)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "nanio", *words, "--log-level", "error", "--no-access-log"],
            env={**os.environ, "NANIO_ACCESS_KEY": KEY_ID, "NANIO_SECRET_KEY": SECRET},
        )
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(self.endpoint, timeout=5)
            except urllib.error.HTTPError:
                return  # it wants a signature: it is up
            except OSError:
                time.sleep(0.05)
        raise AssertionError("the S3 server does not answer")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)

    def remove(self) -> None:
        """Stop it, and delete what it holds."""
        self.stop()
        shutil.rmtree(self.data, ignore_errors=True)
