"""Searches of settings: many runs of a recipe, or many clusterings of the same features, and the best of them."""
