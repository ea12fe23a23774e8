"""The chart, with the real helm; on a real API server where it counts."""
