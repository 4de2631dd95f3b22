"""The SDK: an agent in a few lines of Python."""

from adapters.sdk.agent import Agent
from adapters.sdk.context import Context

__all__ = ["Agent", "Context"]
