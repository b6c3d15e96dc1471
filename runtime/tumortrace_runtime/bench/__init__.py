"""Accuracy beside latency, measured so that it can be compared; what `tumortrace bench` does."""
