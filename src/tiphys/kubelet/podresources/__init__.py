"""The pod resources API: which devices, cores, memory and claims each container of the node has, for monitoring."""
