"""Stale connection tracking entries of Services: found, and removed."""
