"""Garbage collection: images that nobody uses, and what pods that are gone have left behind."""
