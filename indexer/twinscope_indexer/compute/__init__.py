"""How work is done: compiled functions, threads that keep the order, worker processes."""
