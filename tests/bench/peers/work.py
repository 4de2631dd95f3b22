"""What every peer does with a message, and what it is told: the same as the bus's route in `bus bench relay`.

Hand-written as a Python developer would: orjson, jsonschema-rs, plain conditions, one SQLite table in WAL mode with
`synchronous=FULL`. It does less than the bus: no inbox of identities, no check of who sent it, no trace of steps.

This file and the peers run in a virtual environment of their own, and import nothing of the project's but each other.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema_rs
import orjson

PREFETCH = 1000
CONTENT_TYPE = "application/cloudevents+json"


class Mediated(NamedTuple):
    """A message that passed: its id, what came, the id of what goes out, and that."""

    id: str
    body: bytes
    output_id: str
    output: bytes


@dataclass(frozen=True, slots=True)
class Job:
    """Args:
    url: the broker.
    source, target: quorum queues that exist.
    folder: holds the contracts, and takes the log.
    """

    url: str
    source: str
    target: str
    folder: Path

    @classmethod
    def given(cls) -> Job:
        """As the command line says; the URL comes by the environment, for it holds a password."""
        source, target, folder = sys.argv[1:]
        return cls(os.environ["PEER_URL"], source, target, Path(folder))

    def ready(self) -> None:
        """Tell that we consume."""
        print("ready", flush=True)


class Mediation:
    """Contract, condition, translate of five fields, the target's contract."""

    def __init__(self, folder: Path) -> None:
        self._order = _validator(folder / "schemas" / "order.v1.json")
        self._shipment = _validator(folder / "schemas" / "shipment.v1.json")

    def mediate(self, body: bytes) -> Mediated:
        """Do it.

        Raises:
            ValueError: the message is none that this benchmark sends.
        """
        event = orjson.loads(body)
        data = event["data"]
        if not self._order.is_valid(data):
            raise ValueError("breaks the contract of orders")
        if not (data["amount"] > 1.0 and data["currency"] == "EUR"):
            raise ValueError("filtered")
        shipment = {
            "order": data["order_id"],
            "customer": data["customer"]["id"],
            "country": data["customer"]["country"],
            "lines": data["lines"],
            "note": data["note"],
        }
        if not self._shipment.is_valid(shipment):
            raise ValueError("breaks the contract of shipments")
        output_id = blake2b(f"{event['id']}\0orders\0sink\0".encode(), digest_size=16).hexdigest()
        output = {
            "specversion": "1.0",
            "id": output_id,
            "source": "peer",
            "type": "sink.requested",
            "conversationid": event["conversationid"],
            "causationid": event["id"],
            "data": shipment,
        }
        return Mediated(event["id"], body, output_id, orjson.dumps(output))


class Log:
    """An append-only table; a row is on disk when `write` returns."""

    def __init__(self, folder: Path) -> None:
        self._db = sqlite3.connect(folder / "log.db", isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("CREATE TABLE log (seq INTEGER PRIMARY KEY, id TEXT, input BLOB, output_id TEXT, output BLOB)")

    def write(self, rows: list[Mediated]) -> None:
        """Write rows in one transaction."""
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany("INSERT INTO log (id, input, output_id, output) VALUES (?, ?, ?, ?)", rows)
        self._db.execute("COMMIT")


def _validator(path: Path) -> Any:
    return jsonschema_rs.validator_for(json.loads(path.read_text()))
