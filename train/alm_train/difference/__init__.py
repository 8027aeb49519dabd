"""A small ADIFF: what differs between two clips, in three lengths, and which of them is which."""
