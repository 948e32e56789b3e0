"""Several rooms in a row, with nothing of their own."""
