"""Sources that are live: kept going, on one line of time."""
