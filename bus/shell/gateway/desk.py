"""The desk of the gateway: takes requests, hands messages to the bus, and holds clients until there is an answer.

    POST /path          contract -> message -> confirmed by the broker -> held for the answer
    GET /_requests/ID   what the log knows of it

A request is answered when its answer comes into the gateway's inbox. Whichever instance takes it from there acks it at
once: it is in the log, and is only a notice. So a notice that goes to another instance, or is lost with one that
dies, costs a second: while requests are held, the desk looks at what is new in the log.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from bus.core import strict_json
from bus.core.codec import encode
from bus.core.errors import BusError, Refused, StoreFailed
from bus.core.facts import Limits
from bus.core.gateway import (
    PENDING,
    REUSED,
    Result,
    answers,
    failure,
    is_reuse,
    keyed_id,
    message_of,
    ran_out,
    result_of,
    shown,
)
from bus.core.message import CORRELATION, Json, Message
from bus.core.route import Catalog, Entrance
from bus.ports import AgentLink, Inbound
from bus.shell.gateway.http import Request, Response
from bus.shell.gateway.results import Results, Seen
from bus.shell.telemetry.gateway import NONE, GatewayMeter

_log = logging.getLogger(__name__)

REQUESTS = "/_requests/"
PUBLISH_S = 5.0  # how long the broker may take to confirm before the client is told to ask again
SWEEP_S = 1.0
_REMEMBERED = 10_000  # newest requests that are pending though the log may not have them yet
_KEY = re.compile(r"[\x21-\x7e]{1,128}")
_ID = re.compile(r"[0-9a-f]{32}")
_JSON = re.compile(r"application/json\s*(;\s*charset=\"?utf-8\"?\s*)?", re.IGNORECASE)


class _Gone(Exception):
    """There is a response other than the usual one."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


@dataclass(slots=True, eq=False)
class _Held:
    """A client that waits. `body` is its message: two with one id may differ, and one of them is wrong."""

    body: bytes
    result: asyncio.Future[Result] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Desk:
    """Args:
    catalog: its entrances are taken, and its contracts kept.
    link: open, or opening.
    results: what the log knows.
    limits: what a message may be.
    meter: told of every answer.
    clock: epoch seconds.
    """

    def __init__(
        self,
        catalog: Catalog,
        link: AgentLink,
        results: Results,
        limits: Limits,
        meter: GatewayMeter,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._link, self._results = link, results
        self._limits, self._meter, self._clock = limits, meter, clock
        self.reconfigure(catalog)
        self._held: dict[str, list[_Held]] = {}
        self._recent: OrderedDict[str, None] = OrderedDict()
        self._closing = asyncio.Event()
        meter.held = lambda: sum(map(len, self._held.values()))

    def reconfigure(self, catalog: Catalog) -> None:
        """Take what this configuration says from the next request on."""
        self._catalog = catalog
        self._entrances = {(each.method, each.path): each for each in catalog.entrances}

    # --- requests -------------------------------------------------------------------------------------------------

    async def handle(self, request: Request) -> Response:
        """Answer one request; never raises."""
        response = await self._answer(request)
        entrance = self._entrances.get((request.method, request.path))
        self._meter.answered(NONE if entrance is None else entrance.name, response.status)
        return response

    async def _answer(self, request: Request) -> Response:
        try:
            if request.path.startswith(REQUESTS):
                return await self._status(request)
            return await self._enter(request)
        except _Gone as gone:
            return gone.response
        except Exception:  # noqa: BLE001 - one bad request must not end the others
            _log.exception("a request to the gateway failed")
            return _refused(500, "internal", "the gateway failed; its log says why", "internal")

    async def _enter(self, request: Request) -> Response:
        entrance = self._entrance(request)
        data = self._data(request, entrance)
        key = _key(request)
        identity = secrets.token_hex(16) if key is None else keyed_id(entrance, key)
        now_s = self._clock() if key is None else None
        message = message_of(entrance, data, identity, now_s, request.headers.get("traceparent"))
        held = _Held(encode(message.attributes, message.data))
        if any(each.body != held.body for each in self._held.get(identity, ())):
            return _reused()
        self._held.setdefault(identity, []).append(held)  # before it is sent: the answer may be quick
        try:
            if key is None or not await self._known(identity, held):
                await self._publish(message)  # though another client may just do the same: the bus takes it once
            return await self._await(entrance, identity, held)
        finally:
            self._held[identity].remove(held)
            if not self._held[identity]:
                del self._held[identity]

    def _entrance(self, request: Request) -> Entrance:
        entrance = self._entrances.get((request.method, request.path))
        if entrance is not None:
            return entrance
        verbs = sorted(verb for verb, path in self._entrances if path == request.path)
        if verbs:
            response = _refused(405, "bad-http", f"{request.path} takes {', '.join(verbs)}")
            raise _Gone(response._replace(headers=(("Allow", ", ".join(verbs)),)))
        raise _Gone(_refused(404, "unknown-path", "no integration declares this path under `gateway`"))

    def _data(self, request: Request, entrance: Entrance) -> Json:
        if not _JSON.fullmatch(request.headers.get("content-type", "")):
            raise _Gone(_refused(415, "unsupported-content-type", "write `Content-Type: application/json`"))
        try:
            data = strict_json.parse(request.body, self._limits)
        except Refused as refused:
            raise _Gone(_refused(400, refused.code, refused.reason)) from refused
        declared = self._catalog.types.get(entrance.type)
        contract = None if declared is None else declared.contract
        findings = () if contract is None else contract.check(data)
        if contract is not None and findings:
            data_ = failure("contract", f"the body breaks {contract.name}", findings, "contract")
            raise _Gone(Response(400, {"error": data_}))
        return data

    async def _known(self, identity: str, held: _Held) -> bool:
        """Whether the log has this request already; if it has its end, too, it is told at once."""
        try:
            seen = await self._results.of(identity)
        except StoreFailed as error:
            _log.warning("the log cannot be read: %s", error)
            return False  # the bus knows a repeat; only an answer that was given before is not found
        self._compare(seen, identity, held)
        return seen is not None

    def _compare(self, seen: Seen | None, identity: str, held: _Held) -> None:
        if seen is not None and seen.body != held.body:
            raise _Gone(_reused())
        if seen is not None and seen.result is not PENDING:
            self._told(identity, seen.result)

    async def _publish(self, message: Message) -> None:
        try:
            async with asyncio.timeout(PUBLISH_S):
                await self._link.send(message)
        except Refused as refused:
            raise _Gone(_refused(413, refused.code, refused.reason)) from refused
        except (BusError, TimeoutError) as error:
            _log.warning("a request could not be handed to the bus: %s", str(error) or "the broker does not answer")
            raise _Gone(_unavailable()) from error
        self._recent[message.id] = None
        while len(self._recent) > _REMEMBERED:
            self._recent.popitem(last=False)

    async def _await(self, entrance: Entrance, identity: str, held: _Held) -> Response:
        traced = (("Bus-Conversation", identity),)
        if entrance.wait_s is None:
            return Response(202, {"id": identity, "status": "accepted"}, traced)
        began_s = asyncio.get_running_loop().time()
        result = await self._end(identity, held, entrance.wait_s)
        waited_s = asyncio.get_running_loop().time() - began_s
        if result.how == "answered":
            return Response(200, result.data, traced)
        if result.how == "failed" and not ran_out(entrance, result, waited_s):
            return Response(422, {"error": result.data}, traced)
        if entrance.on_timeout == "accepted":
            place = ("Location", REQUESTS + identity)
            return Response(202, dict(shown(identity, result)), (*traced, place))
        if self._closing.is_set():
            what = "the gateway ends, and the bus has the request; ask again with its Idempotency-Key, if it has one"
            return _refused(503, "unavailable", what, "unavailable", (*traced, ("Retry-After", "5")))
        return _refused(504, "timeout", f"no answer within {entrance.wait_s:g} s", "timeout", traced)

    async def _end(self, identity: str, held: _Held, wait_s: float) -> Result:
        """The end of the request, or PENDING when it does not come in time."""
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait((held.result, closing), timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            closing.cancel()
        if not held.result.done() and wait_s > 0:
            try:
                self._compare(await self._results.of(identity), identity, held)
            except StoreFailed as error:
                _log.warning("the log cannot be read: %s", error)
        return held.result.result() if held.result.done() else PENDING

    async def _status(self, request: Request) -> Response:
        identity = request.path.removeprefix(REQUESTS)
        if request.method != "GET":
            return _refused(405, "bad-http", "the status of a request is only read")._replace(
                headers=(("Allow", "GET"),)
            )
        try:
            seen = await self._results.of(identity) if _ID.fullmatch(identity) else None
        except StoreFailed as error:
            _log.warning("the log cannot be read: %s", error)
            return _unavailable()
        if seen is None and identity not in self._recent:
            return _refused(404, "unknown-request", "there is no such request, or the bus has not recorded it yet")
        result = PENDING if seen is None else seen.result
        return Response(200, dict(shown(identity, result)))

    # --- answers --------------------------------------------------------------------------------------------------

    async def hear(self, inbound: Inbound) -> None:
        """Take a notice: a message that came into the gateway's inbox."""
        message = inbound.message
        identity = message.text(CORRELATION) or ""
        if answers(message, identity):
            self._told(identity, result_of(message))
        elif is_reuse(message) and identity in self._held:
            await self._sort_out(identity)
        await inbound.settle(True)

    def _told(self, identity: str, result: Result) -> None:
        for held in self._held.get(identity, ()):
            if not held.result.done():
                held.result.set_result(result)

    async def _sort_out(self, identity: str) -> None:
        """Two instances sent different messages under one key: whose is not in the log is told so."""
        seen = await self._results.of(identity)
        for held in self._held.get(identity, ()):
            if seen is not None and seen.body != held.body and not held.result.done():
                held.result.set_result(Result("failed", _REUSED))

    async def sweep(self) -> None:
        """Look every second whether the log has the end of a request that is held; never returns."""
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                for identity, result in (await self._results.news(self._held)).items():
                    self._told(identity, result)
            except StoreFailed as error:
                if self._held:
                    _log.warning("the log cannot be read: %s", error)

    def close(self) -> None:
        """Hold nobody any longer: what has no answer by now is fetched later, or asked again."""
        self._closing.set()


_REUSED = failure(REUSED, "this Idempotency-Key was used before with another body; write a new one", (), "contract")


def _reused() -> Response:
    return Response(422, {"error": _REUSED})


def _key(request: Request) -> str | None:
    """The Idempotency-Key, with or without the quotes that the standard's draft wants."""
    text = request.headers.get("idempotency-key")
    if text is None:
        return None
    key = text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text
    if not _KEY.fullmatch(key):
        raise _Gone(_refused(400, "bad-key", "`Idempotency-Key` wants 1 to 128 visible characters, such as a UUID"))
    return key


def _refused(
    status: int, code: str, reason: str, class_: str = "refusal", headers: tuple[tuple[str, str], ...] = ()
) -> Response:
    return Response(status, {"error": failure(code, reason, (), class_)}, headers)


def _unavailable() -> Response:
    reason = "the bus cannot take it now; ask again, with an Idempotency-Key so that it is one request"
    return _refused(503, "unavailable", reason, "unavailable", (("Retry-After", "5"),))
