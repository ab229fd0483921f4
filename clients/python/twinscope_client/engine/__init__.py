"""What answers queries: the protocol, and a store opened in this process."""
