"""Deep clustering of images on Ray: DRC-ORID for ranked images, IDFD for unlabelled ones."""
