"""Voice agents: one file for each pipeline protocol."""
