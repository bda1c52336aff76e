"""The JSON documents that we write and read: one dataclass each, written and read by `codec`."""
