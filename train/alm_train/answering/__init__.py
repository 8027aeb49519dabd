"""A small Mellow: an encoder that learns to tag sounds, and a decoder that learns to answer questions about them."""
