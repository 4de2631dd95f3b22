"""Blobs as objects of an S3 bucket, or of anything that speaks S3: signed requests over the standard library's HTTP.

The bucket's name is part of the path, which every server understands. A body goes with the hash that names it, so a
server refuses what was damaged on the way. A server that does not answer is left alone for some seconds, so that a
batch of messages that all need it does not wait for each of them.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

from bus.core.blobs import MOST_BLOB_BYTES, name_of
from bus.core.errors import BlobsDown, BusError
from bus.shell.blobs.signing import Key, encoded, signed

TIMEOUT_S = 5.0  # for each read and write
PAUSE_S = 5.0  # after a failure
_EMPTY = name_of(b"").partition(":")[2]
_WANTED = "write s3://BUCKET/PREFIX?endpoint=https://HOST&region=REGION"


@dataclass(frozen=True, slots=True)
class Place:
    """Args:
    bucket: its name.
    prefix: what object names begin with, ending in `/`, or "".
    endpoint: `http://HOST:PORT` or `https://HOST`.
    """

    bucket: str
    prefix: str
    endpoint: str
    region: str


def place_of(url: str) -> Place:
    """Read `s3://BUCKET/PREFIX?endpoint=URL&region=NAME`; without an endpoint it is Amazon's.

    Raises:
        BusError: it is none.
    """
    parts = urlsplit(url)
    given = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    region = given.pop("region", "us-east-1")
    endpoint = given.pop("endpoint", f"https://s3.{region}.amazonaws.com")
    if parts.scheme != "s3" or not parts.netloc or given or urlsplit(endpoint).scheme not in ("http", "https"):
        raise BusError(f"BUS_BLOBS cannot be read; {_WANTED}")
    prefix = parts.path.strip("/")
    return Place(parts.netloc, f"{prefix}/" if prefix else "", endpoint.rstrip("/"), region)


class S3Blobs:
    """Args:
    place: where it is.
    key_id, secret: the access key.
    clock, monotonic: the time that requests are signed with, and that pauses are counted by.
    """

    def __init__(
        self,
        place: Place,
        key_id: str,
        secret: str,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._place = place
        self._key = Key(key_id, secret, place.region)
        self._clock, self._monotonic = clock, monotonic
        self._down_until = 0.0
        self._connection: http.client.HTTPConnection | None = None

    def put(self, name: str, body: bytes) -> None:
        """Write the object; one that is there is written again, which changes nothing but its time."""
        status, _ = self._ask("PUT", name, body)
        if status != 200:
            self._fails(f"it answers {status} to a PUT")

    def get(self, name: str) -> bytes | None:
        """Read the object, if its bytes still are what its name says."""
        status, body = self._ask("GET", name, b"")
        if status == 404:
            return None
        if status != 200:
            self._fails(f"it answers {status} to a GET")
        return body if name_of(body) == name else None

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, method: str, name: str, body: bytes) -> tuple[int, bytes]:
        if self._monotonic() < self._down_until:
            raise BlobsDown(f"the blob store at {self._place.endpoint} failed a moment ago")
        digest = name.partition(":")[2]
        path = encoded(f"/{self._place.bucket}/{self._place.prefix}{digest[:2]}/{digest}")
        content = digest if method == "PUT" else _EMPTY
        for fresh in (self._connection is None, True):  # a kept connection may have been closed by the server since
            try:
                return self._once(method, path, body, content)
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if fresh:
                    self._fails(str(error) or type(error).__name__)
        raise AssertionError("the second attempt is a fresh one")

    def _once(self, method: str, path: str, body: bytes, content: str) -> tuple[int, bytes]:
        host = urlsplit(self._place.endpoint)
        if self._connection is None:
            secure = host.scheme == "https"
            made = http.client.HTTPSConnection if secure else http.client.HTTPConnection
            self._connection = made(host.netloc, timeout=TIMEOUT_S)
        now = datetime.fromtimestamp(self._clock(), UTC)
        headers = signed(self._key, method, path, {"host": host.netloc}, content, now)
        self._connection.request(method, path, body or None, headers)
        answer = self._connection.getresponse()
        found = answer.read(MOST_BLOB_BYTES + 1)
        if not answer.isclosed():  # longer than any blob
            self.close()
        return answer.status, found

    def _fails(self, why: str) -> None:
        self._down_until = self._monotonic() + PAUSE_S
        raise BlobsDown(f"the blob store at {self._place.endpoint} fails: {why}")
