"""Graceful shutdown of the node: pods end in order, by priority, before the machine goes down."""
