"""Downloads of labelled tasks."""
