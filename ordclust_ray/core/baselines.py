"""What any method has to beat: the median rank, the nearest neighbour in pixels, k-means on pixels."""

import numpy as np
from jaxtyping import Float, Int, UInt8
from numpy import ndarray
from sklearn.cluster import KMeans
from sklearn.neighbors import KNeighborsRegressor


def median_rank(train_ranks: Float[ndarray, "n"], rank_levels: Float[ndarray, "M"]) -> float:
    """The rank level whose constant prediction has the lowest MAE on the training set."""
    return float(rank_levels[np.abs(rank_levels[:, None] - np.median(train_ranks)).argmin()])


def nearest_pixels(
    train_images: UInt8[ndarray, "n S S 3"], train_ranks: Float[ndarray, "n"], images: UInt8[ndarray, "b S S 3"]
) -> Float[ndarray, "b"]:
    """The rank of the training image that is nearest in pixels."""
    neighbours = KNeighborsRegressor(1).fit(_flat(train_images), train_ranks)
    return neighbours.predict(_flat(images))


def pixel_clusters(
    images: UInt8[ndarray, "n S S 3"], num_clusters: int, seed: int, starts: int = 10
) -> Int[ndarray, "n"]:
    """Plain k-means on pixels."""
    return KMeans(num_clusters, n_init=starts, random_state=seed).fit_predict(_flat(images)).astype(np.int64)


def _flat(images: UInt8[ndarray, "n S S 3"]) -> Float[ndarray, "n D"]:
    return images.reshape(len(images), -1).astype(np.float32) / 255
