"""Finds out what the revisions of a project create, from their sources; no revision is run."""
