"""Ingresses -> routes: which are ours, what they say, what their annotations change."""
