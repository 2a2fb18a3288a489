"""Kinds of coordination."""
