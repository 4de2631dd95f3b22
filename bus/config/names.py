"""Whether a name that a document mentions is declared anywhere in the namespace."""

from __future__ import annotations

from bus.config.declared import Namespace
from bus.config.nodes import Scalar
from bus.config.patterns import TypeNames
from bus.config.reader import Reader
from bus.config.suggest import instead_of
from bus.config.yamlfaults import clip
from bus.core.identity import CLIENT, GATEWAY
from bus.core.outputs import BUS
from bus.core.table import is_glob


def check_capability(node: Scalar, namespace: Namespace, reader: Reader, *, declared: bool = False) -> bool:
    """Report a capability that nobody declares, or (unless only `declared` is asked) that no agent offers."""
    name = node.text
    if namespace.agents_unread() and name not in namespace.capabilities:
        return False
    if name not in namespace.capabilities:
        verb = "`capabilities` does not declare" if declared else "no agent offers"
        otherwise = f"`capabilities: {{{clip(name)}: {{request: ..., reply: ...}}}}` in an agents document"
        reader.report(node, "unknown-capability", f"{verb} `{clip(name)}`",
                      instead_of(name, namespace.capabilities, otherwise))  # fmt: skip
        return False
    if not declared and name not in namespace.offered and not namespace.agents_unread():
        reader.report(node, "unknown-capability", f"no agent offers `{name}`", f"`capabilities: [{name}]` on one")
        return False
    return True


def check_type(node: Scalar, namespace: Namespace, reader: Reader, known: TypeNames) -> bool:
    """Report a message type, or a glob, that fits no declared type.

    Args:
        known: all names of types, made once by the caller, because there may be many.
    """
    name = node.text
    if name in known or (is_glob(name) and known.fitted_by(name)):
        return True
    if namespace.types_unread():
        return False
    if is_glob(name):
        reader.report(node, "unknown-type", f"no declared type fits `{clip(name)}`", instead_of(name, known, "a type"))
        return False
    otherwise = f"`types: {{{clip(name)}: {{contract: schemas/...}}}}` in an integration document"
    instead = instead_of(name, known, otherwise)
    if instead != otherwise:
        instead += ", or declare it under `types`"
    reader.report(node, "unknown-type", f"`{clip(name)}` is not declared", instead)
    return False


def check_agent(node: Scalar, namespace: Namespace, reader: Reader, *, senders: bool = False) -> bool:
    """Report an agent that is not declared; with `senders` the bus and its command line count too."""
    name = node.text
    if name in namespace.agents or (senders and (name in (CLIENT, GATEWAY, BUS) or is_glob(name))):
        return True
    if not namespace.agents_unread():
        known = (*namespace.agents, CLIENT, GATEWAY, BUS) if senders else tuple(namespace.agents)
        otherwise = "an agent that an agents document declares"
        reader.report(node, "unknown-agent", f"there is no agent `{clip(name)}`", instead_of(name, known, otherwise))
    return False
