"""The HTTP proxy: bytes of clients to backends and back. It knows nothing of Kubernetes but the routes it is given."""
