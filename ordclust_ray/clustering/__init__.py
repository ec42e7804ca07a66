"""One clustering algorithm over two engines: Ray actors, and the workers of a training run."""
