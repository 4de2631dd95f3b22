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
from pathlib import Path

MODULES = [
    "bus/ports.py",
    "bus/core/actions.py",
    "bus/core/message.py",
    "bus/audit/segment.py",
    *(f"bus/shell/{name}.py" for name in (
        "controls", "express", "identity_filter", "inbox", "judge", "judged", "kit", "leases", "ledger", "outflow",
        "parked", "refusals", "remembered", "schedules", "sqlite_store", "store_rules", "tenure", "waiting", "worker",
    )),
    *(f"bus/shell/amqp/{name}.py" for name in ("confirms", "encode", "session", "table", "wire")),
]  # fmt: skip

ENGINE = "agentbus_express"
NOT_COMPILED = [  # but what is compiled, and the engine, are of no use with others
    "bus/core/express.py", "bus/core/plain.py", "bus/config/cel_plain.py", "bus/shell/engine.py",
    "bus/express/Cargo.toml", "bus/express/Cargo.lock",
]  # fmt: skip

_SETUP = """
from mypyc.build import mypycify
from setuptools import setup
setup(name="agentbus-compiled", packages=[], ext_modules=mypycify({arguments!r}, opt_level="2"))
"""


def main(folder: Path, engine: Path) -> None:
    """Compile into `folder`, in place of what is there."""
    root = Path(__file__).resolve().parents[2]
    sys.path.insert(0, str(root))
    os.environ["BUS_EXPRESS"] = "off"
    from bus.compiled import MANIFEST, fingerprint

    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        shutil.copytree(root / "bus", work / "bus", ignore=shutil.ignore_patterns("__pycache__", "target", "*.so"))
        arguments = ["--strict", "--ignore-missing-imports", *MODULES]
        (work / "setup.py").write_text(_SETUP.format(arguments=arguments))
        command = [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", "made"]
        done = subprocess.run(command, cwd=work, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{done.stdout[-2000:]}{done.stderr[-4000:]}")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        modules = {ENGINE: f"{ENGINE}.so"}
        shutil.copyfile(engine, folder / modules[ENGINE])
        for file in sorted((work / "made").rglob("*.so")):
            name = ".".join((*file.parent.relative_to(work / "made").parts, file.name.partition(".")[0]))
            shutil.copyfile(file, folder / f"{name}.so")
            modules[name] = f"{name}.so"
    rust = sorted(str(each.relative_to(root)) for each in (root / "bus/express/src").glob("*.rs"))
    sources = [*MODULES, *NOT_COMPILED, *rust]
    manifest = {"fingerprint": fingerprint(root, sources), "sources": sources, "modules": modules}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
