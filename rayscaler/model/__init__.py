"""Frozen values that the whole of rayscaler speaks in; this package imports nothing of ours."""
