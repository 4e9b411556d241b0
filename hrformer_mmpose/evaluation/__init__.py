"""OKS evaluation."""
