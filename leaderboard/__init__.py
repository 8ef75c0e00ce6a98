"""Records -> a static website that opens from disk. Imports no torch."""
