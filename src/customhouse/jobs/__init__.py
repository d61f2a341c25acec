"""Background jobs on PgQueuer."""
