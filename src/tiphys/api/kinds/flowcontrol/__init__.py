"""Kinds of flowcontrol."""
