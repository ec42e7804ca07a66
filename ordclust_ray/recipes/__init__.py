"""Named runs of the two systems."""
