"""Device plugins (v1beta1): devices of the machine that pods ask for as extended resources.

`protocol.py` has the messages, `pool.py` and `hints.py` the pure decisions, `ledger.py` what pods hold (durable, a file
beside the pod's volumes), `manager.py` the shell that plugins register with.
"""
