"""Files in and out, one module per format family; readers return records and raise ``InputError``."""
