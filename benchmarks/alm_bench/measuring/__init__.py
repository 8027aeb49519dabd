"""One package measured, each reading in a process of its own."""
