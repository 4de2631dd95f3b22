"""Help articles: Markdown files with a title, a line of tags and a body, as data/articles/ has them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Article:
    """Args:
    id: the file's name without its ending.
    tags: the intent that the article answers, then other words people search for.
    text: the body, one paragraph.
    """

    id: str
    title: str
    tags: tuple[str, ...]
    text: str


def load_articles(folder: Path) -> list[Article]:
    """Read every `*.md` of a folder, in the order of their names.

    Raises:
        ValueError: an article does not start with `# Title` and `tags: a, b`.
    """
    return [_read(path) for path in sorted(folder.glob("*.md"))]


def _read(path: Path) -> Article:
    title, tags, *body = path.read_text(encoding="utf-8").splitlines()
    if not title.startswith("# ") or not tags.startswith("tags: "):
        raise ValueError(f"{path}: write `# Title` in the first line and `tags: intent, word` in the second")
    names = tuple(tag.strip() for tag in tags.removeprefix("tags: ").split(","))
    return Article(path.stem, title.removeprefix("# ").strip(), names, " ".join(" ".join(body).split()))
