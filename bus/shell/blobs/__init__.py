"""Where large values wait for their claim check: see `bus.ports.Blobs`."""
