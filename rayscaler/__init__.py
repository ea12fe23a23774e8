"""rayscaler: a Ray autoscaler that stands outside the head and outlives it."""

__version__ = "0.1.0"
