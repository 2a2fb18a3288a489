"""Subresources that are more than another view of their object: one module each, listed by `table`."""
