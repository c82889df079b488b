"""What a server and its GPUs tell about themselves, read beside the load on a connection of its own."""
