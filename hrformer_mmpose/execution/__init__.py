"""How the layers run fast: choice of path, fused operators, recomputation, conversion."""
