"""Tests of what knows the Kubernetes API."""
