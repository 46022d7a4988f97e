"""The sub-commands, one file per group."""
