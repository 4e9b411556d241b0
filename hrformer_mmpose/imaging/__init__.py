"""Reading, cropping and drawing images; poses as records. NumPy and OpenCV suffice."""
