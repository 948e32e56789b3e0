"""Whether particles, CTF, poses and structure belong together: what ``check`` measures and says."""
