"""Webhooks: calling them (`WebhookClient`), and the two admission plugins that ask them.

`WebhookClient` is what everything in the API server uses that asks another HTTPS server by a review: admission,
conversion of custom resources, authentication, authorization, audit; aggregation uses its `ServiceResolver`.
"""

from __future__ import annotations

from tiphys.apiserver.webhooks.client import CallFailed, WebhookClient
from tiphys.apiserver.webhooks.destination import Destination, ServiceReference
from tiphys.apiserver.webhooks.resolve import ServiceResolver

__all__ = ["CallFailed", "Destination", "ServiceReference", "ServiceResolver", "WebhookClient"]
