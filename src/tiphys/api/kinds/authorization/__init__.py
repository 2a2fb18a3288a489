"""Kinds of authorization."""
