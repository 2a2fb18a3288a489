"""Kinds of certificates."""
