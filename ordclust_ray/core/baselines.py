"""What any method has to beat: the median rank, nearest neighbours in pixels or features, k-means on pixels."""

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


def neighbour_ranks(
    train_features: Float[ndarray, "n D"],
    train_ranks: Float[ndarray, "n"],
    features: Float[ndarray, "b D"],
    rank_levels: Float[ndarray, "M"],
    neighbours: int,
) -> Float[ndarray, "b"]:
    """The rank level that is nearest to the mean rank of the nearest training instances, Euclidean."""
    means = KNeighborsRegressor(min(neighbours, len(train_features))).fit(train_features, train_ranks).predict(features)
    return rank_levels[np.abs(means[:, None] - rank_levels).argmin(axis=1)]


def pixel_clusters(
    images: UInt8[ndarray, "n S S 3"], num_clusters: int, seed: int, starts: int = 10
) -> Int[ndarray, "n"]:
    """Plain k-means on pixels."""
    return KMeans(num_clusters, n_init=starts, random_state=seed).fit_predict(_flat(images)).astype(np.int64)


def _flat(images: UInt8[ndarray, "n S S 3"]) -> Float[ndarray, "n D"]:
    return images.reshape(len(images), -1).astype(np.float32) / 255
