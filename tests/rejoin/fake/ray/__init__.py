"""Stands in for Ray in the child that asks for the cluster id; found by PYTHONPATH."""
