"""`rayscaler conformance`: whether a plugin keeps SPEC.md. What the checks are is plugin/conformance's."""
