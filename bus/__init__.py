"""agentbus: an enterprise service bus for AI agents on RabbitMQ."""

__version__ = "0.1.0"
