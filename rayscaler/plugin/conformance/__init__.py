"""Whether a plugin keeps SPEC.md, seen from outside: every rule that can be checked so is, by its number. Speaks raw gRPC, for our own client hides faults.

Trusts nothing that it hears, and ends everything that it has begun.
"""
