"""The KubeProxyConfiguration API (kubeproxy.config.k8s.io/v1alpha1): read, defaulted, checked, written."""
