"""Eviction: pods go before the node itself runs out of memory, disk or processes."""
