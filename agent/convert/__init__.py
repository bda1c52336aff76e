"""Converting an image: what is done in which order, by ports."""
