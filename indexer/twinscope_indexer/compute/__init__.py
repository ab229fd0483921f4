"""Tools for fast execution: compiled functions, threads that return results in order, and worker processes."""
