"""NetworkPolicies in the kernel of each node: what a pod may be sent, and what it may send.

`compiler` works out what rules a node needs, change by change; `diff` what is to be done about those that are there;
`enforcer` does it and keeps new pods from starting before it is done. The other modules are their parts.
"""
