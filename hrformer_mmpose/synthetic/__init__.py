"""Generated data sets: people with exact keypoints, and shapes for classification."""
