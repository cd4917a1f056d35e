"""The number registry: accounts, keys, agents, numbers and call records, behind one typed protocol."""
