"""What kubectl's exec, attach and port-forward talk to: runtime sessions and connections over WebSocket and SPDY.

`serve_session` and `serve_port_forward` turn a Request of the node API into the Response that upgrades. They know
no pods: the node API looks up the container, and hands in how to open a session or dial a port.
"""

from tiphys.kubelet.streaming.portforward import serve_port_forward
from tiphys.kubelet.streaming.remotecommand import serve_session

__all__ = ["serve_port_forward", "serve_session"]
