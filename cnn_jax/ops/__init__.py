"""Pure functions on arrays, without parameters. One concept a file."""
