"""Exceptions that a user sees: one sentence each, without a traceback at the command line."""


class CryosphereError(Exception):
    """Base of every error that is the user's to mend; the command line prints it and exits with 1."""


class InputError(CryosphereError):
    """An input file cannot be used: the message names file, row or column, what was found and the remedy."""


class ConfigError(CryosphereError):
    """A configuration key or value cannot be used: the message names the key and what was expected."""


class RunError(CryosphereError):
    """A run folder is missing, incomplete, already there, or belongs to other inputs."""


class Cancelled(Exception):
    """A long function was stopped by whoever listened to its progress (:func:`cryosphere.progress.listening`)."""
