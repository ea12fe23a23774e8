"""Why each shape, node and node type stands where it stands, read off one decided cycle. Pure, and decides nothing about the cluster."""
