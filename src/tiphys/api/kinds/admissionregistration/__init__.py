"""Kinds of admissionregistration."""
