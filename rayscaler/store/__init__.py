"""The durable record of one cluster: only what cannot be observed again. The outside world is the database for the rest."""
