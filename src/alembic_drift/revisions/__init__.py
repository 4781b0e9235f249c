"""What the revisions of a project make, read from their sources; none is run."""
