"""The versions of a type's contract, oldest first, and the upcasts that make each into the next."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise

from bus.config.assets import Assets
from bus.config.compatible import differences
from bus.config.contracts import LoadedContract
from bus.config.declared import DeclaredVersion
from bus.config.files import Folder
from bus.config.nodes import Mapping as MappingNode
from bus.config.nodes import Node, Scalar, Sequence
from bus.config.places import MSG
from bus.config.reader import Reader
from bus.config.slots import Slots
from bus.core.expression import Leaf

_VERSION = re.compile(r"(.+)\.v(\d{1,9})")


class VersionsReader:
    """Reads `contract` and `upcast` of types."""

    def __init__(self, reader: Reader, assets: Assets) -> None:
        self._reader = reader
        self._assets = assets

    def read(self, contract: Node, upcast: Node | None, folder: Folder) -> tuple[DeclaredVersion, ...]:
        """The versions, oldest first; () for `any`, and where nothing could be read."""
        nodes = contract.items if isinstance(contract, Sequence) else (contract,)
        if isinstance(contract, Scalar) and contract.text == "any":
            nodes = ()
        elif not nodes:
            self._reader.report(contract, "wrong-type", "`contract` is an empty list", "`any`, or a schema's path")
        loaded = [(each, self._assets.contract(each, "contract", folder)) for each in nodes]
        good = [(node, found) for node, found in loaded if found is not None]
        if len(good) < len(loaded) or not self._ordered(good):
            return tuple(DeclaredVersion(node, found, None) for node, found in good)
        casts = self._casts(upcast, good, folder)
        for (_, old), (node, new) in pairwise(good):
            if old.name not in casts and not (upcast is not None and self._named(upcast, old)):
                self._compare(node, old, new)
        return tuple(DeclaredVersion(node, found, casts.get(found.name)) for node, found in good)

    def _ordered(self, versions: list[tuple[Node, LoadedContract]]) -> bool:
        """Whether several versions are one name's, the oldest first."""
        found = [(node, contract, _VERSION.fullmatch(contract.name)) for node, contract in versions]
        for at, (node, contract, name) in enumerate(found if len(found) > 1 else ()):
            first = found[0][2]
            if name is None or first is None or name[1] != first[1]:
                what = f"`{contract.name}` is no version of one contract"
                self._reader.report(node, "version-order", what, "`schemas/NAME.v1.json`, `schemas/NAME.v2.json`, ...")
                return False
            before = found[at - 1][2] if at else None
            if before is not None and int(before[2]) >= int(name[2]):
                what = f"{contract.name} stands after {before[0]}"
                self._reader.report(node, "version-order", what, "the oldest version first")
                return False
        return True

    def _casts(
        self, upcast: Node | None, versions: list[tuple[Node, LoadedContract]], folder: Folder
    ) -> Mapping[str, Leaf]:
        body = None if upcast is None else self._reader.mapping(upcast, "upcast", "`{v1: {data: ...}}`")
        if body is None:
            return {}
        older = {f"v{each[2]}" for _, contract in versions[:-1] if (each := _VERSION.fullmatch(contract.name))}
        self._reader.keys(body, sorted(older), "`upcast`, which names the versions before the newest")
        slots = Slots(self._reader, self._assets, folder)
        slots.forbid_env(body)
        found: dict[str, Leaf] = {}
        for (_, old), (_, new) in pairwise(versions):
            node = self._named(body, old)
            cast = None if node is None else self._cast(node, old, new, slots)
            if cast is not None:
                found[old.name] = cast
        return found

    def _named(self, upcast: Node, contract: LoadedContract) -> Node | None:
        version = _VERSION.fullmatch(contract.name)
        return upcast.get(f"v{version[2]}") if version is not None and isinstance(upcast, MappingNode) else None

    def _cast(self, node: Node, old: LoadedContract, new: LoadedContract, slots: Slots) -> Leaf | None:
        body = self._reader.mapping(node, "upcast", "`{data: ...}`")
        if body is None:
            return None
        self._reader.keys(body, ("data",), "an upcast")
        data = self._reader.required(body, "data", "an upcast")
        value = None if data is None else slots.value(data, {"data": old.type, "msg": MSG})
        if data is None or value is None:
            return None
        slots.check(data, value.type, new)
        return value.expression

    def _compare(self, node: Node, old: LoadedContract, new: LoadedContract) -> None:
        for pointer, wanted in differences(old.schema, new.schema)[:1]:
            what = f"{new.name} refuses what {old.name} allows: at `{pointer or '/'}` it wants {wanted}"
            version = old.name.rpartition(".")[2]
            self._reader.report(node, "no-upcast", what, f"`upcast: {{{version}: {{data: ...}}}}`")
