"""From files to decoded uint8 images with ranks, on Ray Data."""
