"""The machine a number belongs to: what it is, what it can give, how steady it was."""
