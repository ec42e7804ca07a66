"""What a run achieved: tables and figures of the two systems."""
