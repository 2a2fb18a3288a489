"""Somebody else's runtime behind our seam: containerd, CRI-O or any other that speaks the CRI (v1) on a socket.

`protocol.py` has the messages, `convert.py` turns our specs into theirs and back (pure), `client.py` is the Runtime,
`images.py` its ImageStore, `sessions.py` exec and attach over the streaming server that the runtime names.
"""
