"""Data: batches, datasets, preparation and augmentation."""
