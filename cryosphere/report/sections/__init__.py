"""The sections of the page, one file each: ``section(contents)`` gives heading and body."""
