"""Documentation of a configuration, written from it: as AsyncAPI and as a page."""
