"""Kinds of rbac."""
