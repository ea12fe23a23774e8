"""Telling one receiver outside, over HTTP, of node types in trouble. Knows nothing of how that comes to be, and holds nobody up."""
