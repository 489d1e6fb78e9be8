"""The `mmeval` command line, one module a verb."""
