"""Executors in other processes, in any language: both halves of `executor.proto`. Knows no executor of its own."""

from rayscaler.plugin.serve import serve

__all__ = ["serve"]
