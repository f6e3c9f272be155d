"""One folder per model family; families never import each other."""
