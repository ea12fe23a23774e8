"""Ray on this machine: worker processes and the head. Knows processes and `ray start`, nothing of planning or the wire."""
