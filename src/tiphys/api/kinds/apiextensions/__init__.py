"""Kinds of apiextensions."""
