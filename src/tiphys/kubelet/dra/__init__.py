"""Dynamic resources on the node: claims of pods, prepared by their drivers before containers start (DRA).

`protocol.py` has the messages, `claims.py` the pure decisions and the durable records, `drivers.py` the registered
drivers, `manager.py` the shell.
"""
