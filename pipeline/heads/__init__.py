"""Detector heads: one file a family; each knows its layout, its preprocessing and how its numbers become boxes."""
