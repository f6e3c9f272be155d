"""Memory readings and metrics."""
