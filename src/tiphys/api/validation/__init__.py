"""Validation that several kinds share: names, labels, metadata, addresses, quantities and the parts of a pod."""
