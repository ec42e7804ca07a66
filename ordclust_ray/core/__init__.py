"""The mathematics: arrays in, arrays out. No Ray, no MLflow, no files, no settings."""
