"""Stand-ins for packages that MMPose imports and a new machine lacks."""
