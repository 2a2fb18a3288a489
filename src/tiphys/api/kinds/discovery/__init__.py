"""Kinds of discovery."""
