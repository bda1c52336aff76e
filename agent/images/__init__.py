"""Conversion of container images into nydus images: skopeo copies, nydus-image builds, the rest is here."""
