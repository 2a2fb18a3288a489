"""Kinds of resource."""
