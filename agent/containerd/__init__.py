"""containerd's configuration: which files it loads, what they come to, and how they are edited. Pure."""
