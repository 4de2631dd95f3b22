"""Connect an agent to the bus: the Python SDK, the stdio adapter, and the host that runs declared agents."""

from adapters.sdk import Agent, Context
from bus.core.errors import AgentError, FailureClass
from bus.core.message import Json, Message

__all__ = ["Agent", "AgentError", "Context", "FailureClass", "Json", "Message"]
