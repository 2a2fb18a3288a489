"""The KubeletConfiguration API (kubelet.config.k8s.io/v1beta1): read, merged, checked."""
