"""Running MMEngine: command line, processes, precision."""
