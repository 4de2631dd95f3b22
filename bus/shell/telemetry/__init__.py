"""Watching the bus: metrics, their endpoint, spans and logs. Nothing here decides anything."""
