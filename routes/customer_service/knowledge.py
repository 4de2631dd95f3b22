"""Knowledge: finds the help articles that fit an inquiry, by BM25 over data/articles/; an agent in Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapters import Agent, Message
from articles import Article, load_articles
from bm25 import Bm25

ARTICLES = Path(__file__).parent / "data" / "articles"
TITLE_COUNTS = 3  # a word in the title or a tag says more about an article than one in its body

agent = Agent("knowledge")


class Library:
    """Args:
    articles: what can be found.
    """

    def __init__(self, articles: Sequence[Article]) -> None:
        self._articles = articles
        self._index = Bm25([_indexed(article) for article in articles])

    def search(self, query: str, k: int) -> list[dict[str, Any]]:
        """Return at most `k` passages, best first, as the reply's contract wants them."""
        return [
            {"id": found.id, "title": found.title, "text": found.text, "score": round(score, 4)}
            for found, score in ((self._articles[number], score) for number, score in self._index.search(query, k))
        ]


def _indexed(article: Article) -> str:
    heading = " ".join([article.title, *(tag.replace("_", " ") for tag in article.tags)])
    return " ".join([heading] * TITLE_COUNTS + [article.text])


library = Library(load_articles(ARTICLES))  # this file is a program: its host imports it to start the agent


@agent.capability("knowledge")
def search(request: Message) -> dict[str, Any]:
    """Answer `knowledge.requested`: {query, k}."""
    data: Any = request.data  # the bus has checked it against knowledge.request.v1
    return {"passages": library.search(data["query"], data["k"])}
