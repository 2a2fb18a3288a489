"""Pods that a node runs without being told by the API: from manifests in a directory or at a URL, with mirrors of them
in the API for people to see."""
