"""Images as registries keep them: references, manifests, layers put on one another. Pure: bytes in, values out."""
