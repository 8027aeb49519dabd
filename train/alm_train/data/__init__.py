"""Recordings, their licences, the words for their sounds, and the questions asked about them."""
