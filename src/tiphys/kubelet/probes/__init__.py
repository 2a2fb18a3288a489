"""Liveness, readiness and startup probes: when to ask, how to ask, and what the answers add up to."""
