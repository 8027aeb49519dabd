"""A small CLAP trained from recordings and captions that may be passed on."""
