"""Cluster IPs and node ports that do not agree with who has them: found, told, and put right where that is safe."""
