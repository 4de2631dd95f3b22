"""The log: what is written of each decision, how a batch of them is packed, and how a conversation is told. Pure."""
