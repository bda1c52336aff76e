"""What to think of the mirror and which route to take. Pure: no clock, no sockets."""
