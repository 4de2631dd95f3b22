"""What has been published must stay as it is: a configuration against an earlier one of the same namespace.

Senders were built against a published contract, and messages of it wait in queues. So a version that was published is
not edited, and the newest accepts, by itself or by upcasts, whatever the newest published one did.
"""

from __future__ import annotations

from collections.abc import Iterator

from bus.config.compatible import differences, same
from bus.config.contracts import LoadedContract
from bus.config.declared import DeclaredCapability, DeclaredType, Namespace
from bus.config.nodes import Node
from bus.config.reader import Reader


def check_published(now: Namespace, before: Namespace, reader: Reader) -> None:
    """Report edited versions, and types whose new version refuses what was published.

    Args:
        now: the configuration to be published.
        before: the one that is.
    """
    for name, old in before.types.items():
        new = now.types.get(name)
        if new is not None:
            _edited(_of_type(old), dict(_listed(new)), reader)
            _refusing(old, new, reader)
    for name, asked in before.capabilities.items():
        known = now.capabilities.get(name)
        if known is not None:
            _edited(_of_capability(asked), {each.name: (known.node, each) for each in _of_capability(known)}, reader)


def _listed(declared: DeclaredType) -> Iterator[tuple[str, tuple[Node, LoadedContract]]]:
    for version in declared.versions:
        yield version.contract.name, (version.node, version.contract)


def _of_type(declared: DeclaredType) -> list[LoadedContract]:
    return [version.contract for version in declared.versions]


def _of_capability(declared: DeclaredCapability) -> list[LoadedContract]:
    return [each for each in (declared.request, declared.reply) if each is not None]


def _edited(published: list[LoadedContract], now: dict[str, tuple[Node, LoadedContract]], reader: Reader) -> None:
    for old in published:
        if old.name not in now:
            continue
        node, new = now[old.name]
        changed = [name for name in old.files if name not in new.files or not same(old.files[name], new.files[name])]
        if changed:
            stem, _, version = old.name.rpartition(".v")
            following = f"`{stem}.v{int(version) + 1}`" if version.isdigit() else "a new version"
            through = "" if same(old.schema, new.schema) else " and has changed"
            what = f"{old.name} is published{through or f', and {changed[0]}, which it refers to, has changed'}"
            reader.report(node, "edited-version", what, f"the change into {following}")


def _refusing(old: DeclaredType, new: DeclaredType, reader: Reader) -> None:
    """A published version that is not listed any more must be a part of what the newest accepts."""
    if old.contract is None or new.contract is None:
        if old.contract is None and new.contract is not None:
            what = f"`{new.node.text}` was published with `contract: any`, which {new.contract.name} refuses a part of"
            reader.report(new.versions[-1].node, "incompatible-version", what, "a new type")
        return
    if old.contract.name in (each.contract.name for each in new.versions):
        return  # each version that is listed is compared with the next
    for pointer, wanted in differences(old.contract.schema, new.contract.schema)[:1]:
        name = old.contract.name
        what = f"{new.contract.name} refuses what the published {name} allows: at `{pointer or '/'}` it wants {wanted}"
        version = name.rpartition(".")[2]
        instead = f"{name} into `contract`, before it, and `upcast: {{{version}: {{data: ...}}}}`"
        reader.report(new.versions[-1].node, "incompatible-version", what, instead)
