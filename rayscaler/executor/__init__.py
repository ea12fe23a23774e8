"""The port to whatever launches and ends instances."""
