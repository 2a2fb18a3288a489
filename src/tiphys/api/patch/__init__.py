"""Patches: JSON patch (RFC 6902), JSON merge patch (RFC 7396) and strategic merge patch.

`request.patch` is what the endpoints call. The algorithms never change the document they are given: the result
shares every part that the patch left alone.
"""
