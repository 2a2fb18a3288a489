"""Versions that Kubernetes serves no more and manifests in the wild still name, as views of today's kinds.

A former version that differs in nothing but its name needs a line in `data/resources.txt` only. One with other
fields has its types in `data/former.txt`, and one with other defaults or another shape a class in this package.
"""
