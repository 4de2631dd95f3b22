"""RabbitMQ over AMQP 0-9-1: pika for the connection, the hot path our own."""
