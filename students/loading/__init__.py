"""Models by name: from the hub, a folder, or an adapter."""
