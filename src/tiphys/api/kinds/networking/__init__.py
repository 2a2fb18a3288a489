"""Kinds of networking."""
