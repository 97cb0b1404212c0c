"""Native code in processes of its own, so that a crash in it takes nothing else with it."""
