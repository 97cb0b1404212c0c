"""A filmed-looking street scene with exact ground truth, composed from two photographs."""
