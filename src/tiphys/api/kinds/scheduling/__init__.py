"""Kinds of scheduling."""
