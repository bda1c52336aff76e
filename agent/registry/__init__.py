"""What registries want to know of who asks: names, docker's configuration, credentials, challenges. Pure."""
