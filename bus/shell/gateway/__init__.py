"""The Messaging Gateway as an HTTP server: what HTTP clients ask becomes messages, and the answers come back."""
