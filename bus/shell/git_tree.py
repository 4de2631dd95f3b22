"""Folders as they were at a commit: files out of Git, into a folder of their own."""

from __future__ import annotations

import subprocess
import zipfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from bus.core.errors import BusError

_GIT_S = 60  # seconds that a Git command may take


class NoSuchRef(BusError):
    """The user's fault: neither a folder nor a commit of the repository that the configuration stands in."""


def taken_out(ref: str, folders: Sequence[Path], into: Path) -> list[Path]:
    """Write folders, and those beside them, as they were at a commit.

    Args:
        ref: a branch, tag or commit.
        folders: in one repository or several.
        into: an empty folder.

    Returns:
        Where the folders are now, without those that the commit does not have.

    Raises:
        NoSuchRef: there is no such commit, or a folder is in no repository.
    """
    found: list[Path] = []
    for number, folder in enumerate(folders):
        around = folder.resolve().parent
        top = Path(_git(around, "rev-parse", "--show-toplevel").decode().strip())
        named = f"{ref}^{{commit}}"
        commit = _git(around, "rev-parse", "--verify", "--quiet", "--end-of-options", named).decode().strip()
        within = around.relative_to(top.resolve())
        there = into / str(number)
        there.mkdir(parents=True)
        if within.parts and not _git(top, "ls-tree", commit, "--", within.as_posix()):
            continue
        archive = _git(top, "archive", "--format=zip", commit, *([within.as_posix()] if within.parts else []))
        with zipfile.ZipFile(BytesIO(archive)) as files:  # which writes nothing outside, and no links
            files.extractall(there)
        if (there / within / folder.resolve().name).is_dir():
            found.append(there / within / folder.resolve().name)
    return found


def _git(folder: Path, *arguments: str) -> bytes:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, timeout=_GIT_S, check=False)
    except FileNotFoundError as error:
        raise NoSuchRef("git is not installed; write the path of a folder") from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise NoSuchRef(said[0] if said else f"there is no such commit in {folder}; write a branch, a tag or a folder")
    return done.stdout
