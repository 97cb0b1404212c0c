"""Recipes: how each model in `pipeline/bundled` is made, from public sources to the last byte."""
