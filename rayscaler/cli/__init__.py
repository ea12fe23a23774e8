"""The command line: one file per command group; talks to the service as any client would."""
