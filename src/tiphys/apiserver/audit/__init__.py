"""The audit log: who asked what, and what came of it (audit.k8s.io/v1). Off by default, and then it costs nothing."""
