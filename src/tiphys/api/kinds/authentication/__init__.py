"""Kinds of authentication."""
