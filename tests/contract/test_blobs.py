"""One suite for both blob stores, and what only a server can do wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bus.core.blobs import name_of
from bus.core.errors import BlobsDown, BusError
from bus.ports import Blobs
from bus.shell.blobs.folder import FolderBlobs
from bus.shell.blobs.s3 import PAUSE_S, S3Blobs, place_of
from bus.shell.blobs.signing import Key, signed
from tests.s3_server import BUCKET, KEY_ID, SECRET, S3Server

BODY = b'{"text":"' + "größer ".encode() * 20_000 + b'"}'


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    made = S3Server()
    yield made
    made.remove()


@dataclass
class Bench:
    """Args:
    open: opens another handle on the same blobs.
    files: where they lie.
    break_: makes writing and reading fail.
    """

    open: Callable[[], Blobs]
    files: Path
    break_: Callable[[], None]


def s3(server: S3Server, prefix: str = "", secret: str = SECRET) -> S3Blobs:
    return S3Blobs(place_of(f"s3://{BUCKET}/{prefix}?endpoint={server.endpoint}"), KEY_ID, secret)


@pytest.fixture(params=["folder", "s3"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    if request.param == "folder":
        folder = tmp_path / "blobs"

        def block() -> None:
            os.rename(folder, tmp_path / "away")
            folder.write_text("in the way")

        yield Bench(lambda: FolderBlobs(folder), folder, block)
        return
    server: S3Server = request.getfixturevalue("server")
    prefix = f"p {tmp_path.name}+é"
    yield Bench(lambda: s3(server, prefix), server.data / BUCKET / prefix, server.stop)
    if server._process.poll() is not None:
        server.start()


def test_what_is_put_is_there_for_every_handle(bench: Bench) -> None:
    one, other = bench.open(), bench.open()
    name = name_of(BODY)
    assert one.get(name) is None
    one.put(name, BODY)
    one.put(name, BODY)
    one.put(name_of(b"{}"), b"{}")
    assert other.get(name) == BODY
    assert other.get(name_of(b"{}")) == b"{}"
    assert len([each for each in bench.files.glob("*/*") if each.is_file() and not each.name.startswith(".")]) == 2


def test_what_was_damaged_counts_as_gone(bench: Bench) -> None:
    blobs, name = bench.open(), name_of(BODY)
    blobs.put(name, BODY)
    digest = name.partition(":")[2]
    (file,) = [each for each in bench.files.rglob(digest) if each.is_file()]
    file.write_bytes(b"x" + BODY[1:])
    assert blobs.get(name) is None


def test_what_cannot_be_written_or_read_is_said(bench: Bench) -> None:
    blobs, name = bench.open(), name_of(BODY)
    blobs.put(name, BODY)
    bench.break_()
    with pytest.raises(BlobsDown):
        blobs.put(name_of(b"2"), b"2")
    with pytest.raises(BlobsDown):
        blobs.get(name)
    with pytest.raises(BlobsDown):
        bench.open().get(name)


def test_a_put_is_in_use_again_for_whoever_takes_old_ones_away(bench: Bench) -> None:
    blobs, name = bench.open(), name_of(BODY)
    blobs.put(name, BODY)
    (file,) = [each for each in bench.files.rglob(name.partition(":")[2]) if each.is_file()]
    os.utime(file, (1, 1))
    blobs.put(name, BODY)
    assert file.stat().st_mtime > 1


def test_a_signature_is_what_amazon_says_it_is() -> None:
    """The example `GET Object` of the S3 API's reference, Signature Calculations for the Authorization Header."""
    key = Key("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1")
    headers = {"host": "examplebucket.s3.amazonaws.com", "range": "bytes=0-9"}
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    made = signed(key, "GET", "/test.txt", headers, empty, datetime(2013, 5, 24, tzinfo=UTC))
    expected = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    assert made["authorization"].endswith(
        f"SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,Signature={expected}"
    )


def test_a_wrong_secret_is_told_from_a_blob_that_is_gone(server: S3Server) -> None:
    with pytest.raises(BlobsDown, match="answers 403"):
        s3(server, secret="wrong").get(name_of(BODY))


def test_a_server_that_fails_is_left_alone_for_a_while_and_then_used_again(server: S3Server) -> None:
    now = [0.0]
    place = place_of(f"s3://{BUCKET}/again?endpoint={server.endpoint}")
    blobs, name = S3Blobs(place, KEY_ID, SECRET, monotonic=lambda: now[0]), name_of(BODY)
    blobs.put(name, BODY)
    server.stop()
    with pytest.raises(BlobsDown, match="fails"):
        blobs.get(name)
    server.start()
    with pytest.raises(BlobsDown, match="a moment ago"):
        blobs.get(name)
    now[0] += PAUSE_S
    assert blobs.get(name) == BODY
    server.stop()  # the connection that is kept is dead, and nobody has noticed
    server.start()
    assert blobs.get(name) == BODY


@pytest.mark.parametrize("url", ["s3://", "s3://box?endpoint=ftp://x", "s3://box?regoin=x", "gs://box"])
def test_a_place_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(BusError, match="write s3://BUCKET"):
        place_of(url)
