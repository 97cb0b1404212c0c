"""How a run is: watched, told to probes and to the service manager."""
