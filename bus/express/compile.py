"""Compile the modules of the messages' path to C, into a folder: `python bus/express/compile.py FOLDER ENGINE`.

The engine, built by cargo, is put beside them. They are compiled as they are, by mypyc, from their annotations. It
needs a C compiler and Python's headers. What is not on every message's way is not worth a compiler's minute; what
reaches into pika's classes cannot be compiled.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from importlib.metadata import version
from pathlib import Path

MODULES = [
    "bus/ports.py",
    "bus/core/actions.py",
    "bus/core/message.py",
    "bus/audit/segment.py",
    *(f"bus/shell/{name}.py" for name in (
        "controls", "express", "identity_filter", "inbox", "judge", "judged", "kit", "leases", "ledger", "outflow",
        "parked", "refusals", "remembered", "schedules", "sqlite_rows", "sqlite_store", "store_rules", "tenure",
        "waiting", "worker",
    )),
    *(f"bus/shell/amqp/{name}.py" for name in ("confirms", "encode", "session", "table", "wire")),
]  # fmt: skip

ENGINE = "agentbus_express"
# What the engine repeats in its own words, or builds on: with another one it would decide otherwise than Python.
REPEATED = [
    "bus/core/**/*.py", "bus/audit/**/*.py", "bus/config/**/*.py", "bus/shell/engine.py",
    "bus/express/src/*.rs", "bus/express/Cargo.toml", "bus/express/Cargo.lock",
]  # fmt: skip

_SETUP = """
from mypyc.build import mypycify
from setuptools import setup
setup(name="agentbus-compiled", packages=[], ext_modules=mypycify({arguments!r}, opt_level="2"))
"""


def main(folder: Path, engine: Path) -> None:
    """Compile into `folder`: processes that run what is there keep it, and new ones take all of this or none."""
    root = Path(__file__).resolve().parents[2]
    sys.path.insert(0, str(root))
    os.environ["BUS_EXPRESS"] = "off"
    from bus.compiled import MANIFEST, fingerprint

    if sys.version_info >= (3, 14):  # whose tuples keep their hash: bus/express/src/tuples.rs makes them without one
        sys.exit("the express lane is for Python 3.11 to 3.13")
    _same_contracts(root)
    repeated = {str(each.relative_to(root)) for pattern in REPEATED for each in root.glob(pattern)}
    sources = sorted({*MODULES, *repeated})
    of = fingerprint(root, sources)
    before = _said(folder / MANIFEST)
    with tempfile.TemporaryDirectory() as scratch:
        files = {ENGINE: engine, **_compiled(root, Path(scratch))}
        (folder / of).mkdir(parents=True, exist_ok=True)
        modules = {name: f"{of}/{name}.so" for name in files}
        for name, file in files.items():
            _put(folder / modules[name], file.read_bytes())
    manifest = {"fingerprint": of, "sources": sources, "modules": modules}
    _put(folder / MANIFEST, json.dumps(manifest, indent=1).encode())
    for each in folder.iterdir():
        if each.name not in (MANIFEST, of, before):
            shutil.rmtree(each) if each.is_dir() else each.unlink()


def _compiled(root: Path, scratch: Path) -> dict[str, Path]:
    """Compile a copy of the sources; returns the file of each module."""
    shutil.copytree(root / "bus", scratch / "bus", ignore=shutil.ignore_patterns("__pycache__", "target", "*.so"))
    arguments = ["--strict", "--ignore-missing-imports", *MODULES]
    (scratch / "setup.py").write_text(_SETUP.format(arguments=arguments))
    command = [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", "made"]
    done = subprocess.run(command, cwd=scratch, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{done.stdout[-2000:]}{done.stderr[-4000:]}")
    files = sorted((scratch / "made").rglob("*.so"))
    return {
        ".".join((*each.parent.relative_to(scratch / "made").parts, each.name.split(".")[0])): each for each in files
    }


def _same_contracts(root: Path) -> None:
    """The crate that checks contracts in the engine, and the wheel that does in Python, are of one version."""
    lock = tomllib.loads((root / "bus/express/Cargo.lock").read_text())
    crate = next(each["version"] for each in lock["package"] if each["name"] == "jsonschema")
    wheel = version("jsonschema-rs")
    if crate.split(".")[:2] != wheel.split(".")[:2]:
        sys.exit(f"jsonschema-rs is {wheel}, and the engine has {crate}; install jsonschema-rs {crate}")


def _said(manifest: Path) -> str:
    """What the build before was of; empty when there is none."""
    try:
        return str(json.loads(manifest.read_text())["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _put(file: Path, content: bytes) -> None:
    """Write a file in one step: what is mapped by a process stays as it is."""
    new = file.with_name(f"{file.name}.new")
    new.write_bytes(content)
    new.chmod(0o755)  # to be read by whoever runs the bus, whatever the umask
    new.replace(file)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
