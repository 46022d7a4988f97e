"""One command over the four roles. Every sub-command is imported only when it is called, so that help is quick."""
