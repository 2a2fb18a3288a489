"""The kubelet's certificates: asked for by CertificateSigningRequests, kept on disk, renewed in time."""
