"""Executors in other processes, in any language: both halves of `executor.proto`. Knows no executor of its own."""
