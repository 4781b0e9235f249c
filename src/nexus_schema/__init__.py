"""What the schema needs at run time: where the database is, how to migrate it, what revisions share."""
