"""One self-contained HTML page per run: what went in, what was found, how sure it is, how to repeat it."""
