"""What was measured, as records and as files."""
