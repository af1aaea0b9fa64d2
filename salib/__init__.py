"""Scale-ALiBi: the library behind the paper that runs."""

__version__ = "0.1.0"
