"""The node's HTTPS API: logs, exec, attach, port-forward, pods, health and metrics."""
