"""Definitions: a mapping becomes a ClusterConfig, or a list of every problem in it."""
