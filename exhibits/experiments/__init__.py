"""The experiments that the paper did not run: one module each, its plan in paper/experiments.yml.

A module has `run`, which trains and measures what its plan's budget says and resumes where it
stopped, `verdict`, which holds the rows against the plan's rule, and what its page draws.
"""
