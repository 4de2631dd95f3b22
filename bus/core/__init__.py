"""The pure core: messages in, decisions out. No I/O, no clock, no randomness, no logging."""
