"""The durable record of one cluster, and its definition as it was good last: only what cannot be observed again. The outside world is the database for the rest."""
