"""The shell: facts flow in, a plan flows out, and they meet in one task per cluster."""
