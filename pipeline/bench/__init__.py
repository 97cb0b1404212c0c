"""How fast a chain is on this machine: its parts and the whole, how many cameras it holds, and one beside another."""
