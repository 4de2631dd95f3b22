"""The imperative shell: RabbitMQ, stores, workers and telemetry. It performs what the core decides."""
