"""Equal shares of rows."""


def share_edges(num_rows: int, world_size: int) -> list[int]:
    """First row of each process's share, and the end.

    >>> share_edges(10, 3)
    [0, 3, 6, 10]
    """
    return [num_rows * w // world_size for w in range(world_size + 1)]
