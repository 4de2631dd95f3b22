"""The `schedules` of an integration document: what the bus sends by the clock, checked as far as anybody can know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from zoneinfo import available_timezones

from cronsim import CronSimError

from bus.config.declared import DeclaredSchedule, Integration, Namespace
from bus.config.names import check_type
from bus.config.nodes import Mapping as MappingNode
from bus.config.nodes import Node, Scalar, Sequence
from bus.config.patterns import TypeNames
from bus.config.reader import Reader
from bus.config.secrets import Secrets
from bus.config.suggest import instead_of
from bus.config.yamlfaults import clip
from bus.core.message import Json
from bus.core.route import Schedule
from bus.core.schedules import following

KEYS = ("cron", "zone", "type", "data")
UTC = "UTC"
_FIELDS = 5
_EXAMPLE = '`cron: "0 6 * * 1-5"`, which is minute, hour, day, month, weekday'


@dataclass(frozen=True, slots=True)
class ScheduleReader:
    """Reads schedules into the namespace."""

    reader: Reader
    secrets: Secrets
    namespace: Namespace

    def read(self, key: Scalar, value: Node, integration: Integration) -> None:
        """Read one schedule."""
        name = self.reader.name(key, "a schedule")
        body = self.reader.mapping(value, key.text, '`{cron: "0 2 * * *", type: report.due}`')
        if body is None:
            return
        self.reader.keys(body, KEYS, "a schedule")
        owner = f"schedule `{clip(key.text)}`"
        cron, type_ = (self.reader.required(body, each, owner, key) for each in ("cron", "type"))
        zone = self._zone(body)
        expression = None if cron is None or zone is None else self._cron(cron, zone)
        type_name = None if type_ is None else self.reader.name(type_, "type", "type")
        data = self._data(body)
        if name is None or expression is None or zone is None or type_name is None or not isinstance(type_, Scalar):
            return
        schedule = Schedule(f"{integration.name}/{name}", expression, zone, type_name, data)
        self.namespace.schedules.append(DeclaredSchedule(type_, body.get("data") or key, schedule))

    def _zone(self, body: MappingNode) -> str | None:
        node = body.get("zone")
        if node is None:
            return UTC
        zone = self.reader.text(node, "zone")
        if zone is None or zone in available_timezones():
            return zone
        what = f"there is no time zone `{clip(zone)}`"
        self.reader.report(
            node, "bad-zone", what, instead_of(zone, available_timezones(), "one such as `Europe/Berlin`")
        )
        return None

    def _cron(self, node: Node, zone: str) -> str | None:
        text = self.reader.text(node, "cron")
        if text is None:
            return None
        fields = text.split()
        if len(fields) != _FIELDS:
            self.reader.report(node, "bad-cron", f"`cron` wants five fields, got {len(fields)}", _EXAMPLE)
            return None
        expression = " ".join(fields)
        try:
            ever = following(Schedule("", expression, zone, ""), 0.0)
        except CronSimError as error:
            what = f"`{clip(text)}` is no cron expression: {str(error)[:1].lower()}{str(error)[1:]}"
            self.reader.report(node, "bad-cron", what, _EXAMPLE)
            return None
        if ever is None:
            self.reader.report(node, "bad-cron", f"`{clip(text)}` is never due", "a day that the month has")
            return None
        return expression

    def _data(self, body: MappingNode) -> Json:
        node = body.get("data")
        if node is None:
            return None
        for each in _texts(node):
            if "{{" in each.text:
                what = "`data` of a schedule is sent as it is written, and `{{` is not filled in"
                self.reader.report(each, "no-expression", what, "the value, and a route with `translate` for the rest")
        return self.secrets.json(node)


def check_schedules(namespace: Namespace, known: TypeNames, reader: Reader) -> Iterator[Scalar]:
    """Report types that nobody declares and data that breaks its type's contract; yields the types that are sent."""
    for each in namespace.schedules:
        if not check_type(each.type, namespace, reader, known):
            continue
        contract = namespace.contract_of(each.schedule.type)
        findings = contract.check(each.schedule.data) if contract is not None else ()
        if contract is not None and findings:
            first = findings[0]
            what = f"{contract.name} wants at `{first.pointer or '/'}` {first.expected}, got {first.got}"
            reader.report(each.data, "data-mismatch", what, "data that keeps it")
        yield each.type


def _texts(node: Node) -> Iterator[Scalar]:
    if isinstance(node, MappingNode):
        for _, value in node.pairs:
            yield from _texts(value)
    elif isinstance(node, Sequence):
        for item in node.items:
            yield from _texts(item)
    elif isinstance(node.value, str):
        yield node
