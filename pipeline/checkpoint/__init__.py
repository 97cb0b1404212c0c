"""Restarts: what a run remembers, saved while it goes on."""
