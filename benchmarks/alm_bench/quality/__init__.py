"""Quality: what packages answer to benchmark questions, scored with intervals and side by side."""
