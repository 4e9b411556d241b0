"""COCO-style data."""
