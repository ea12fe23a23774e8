"""Everything that knows the Kubernetes API: workers as pods, definitions in ConfigMaps, the head. Knows nothing of demand."""
