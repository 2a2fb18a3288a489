"""Kinds of apiregistration."""
