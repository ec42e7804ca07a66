"""Deep clustering of images on Ray: DRC-ORID for ranked images, IDFD for unlabelled ones."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ordclust_ray.clustering.estimator import RepulsiveKMeans

__all__ = ["RepulsiveKMeans"]


def __getattr__(name: str) -> Any:
    """Loads the estimator, and scikit-learn with it, when it is asked for: workers of a run do without."""
    if name in __all__:
        from ordclust_ray.clustering.estimator import RepulsiveKMeans

        return RepulsiveKMeans
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
