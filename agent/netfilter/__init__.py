"""The kernel's side of the switch: the fence, the connections, the listeners, and who runs where."""
