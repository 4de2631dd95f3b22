"""agentbus: an enterprise service bus for AI agents on RabbitMQ."""

from bus.compiled import prefer_compiled

__version__ = "0.1.0"

prefer_compiled()
