"""PodSecurity: pods must keep to the Pod Security Standards that the labels of their namespace name (KEP-2579)."""

from __future__ import annotations

from tiphys.apiserver.admission.podsecurity.plugin import PodSecurity

__all__ = ["PodSecurity"]
