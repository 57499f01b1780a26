"""`lakeflow serve`: search over HTTP, for reading alone."""
