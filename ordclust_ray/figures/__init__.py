"""The papers' figures as matplotlib figures, drawn from plain arrays: `drc`, `idfd`, and `quality` for the choice of k.

No function touches pyplot, files or global state: all work headless and in threads.
Images are uint8 arrays (n, H, W, 3), clusters are numbered 0, ..., k - 1.
"""
