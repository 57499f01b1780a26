"""`lakeflow start`: landings, jobs, indexes and maintenance in one process that stays."""
