"""TODO coco."""
