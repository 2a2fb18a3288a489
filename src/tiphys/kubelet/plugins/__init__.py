"""Everything that plugs into the kubelet over gRPC: device plugins, drivers of dynamic resources, and who asks of them.

`node.py` is what the rest of the kubelet sees.
"""
