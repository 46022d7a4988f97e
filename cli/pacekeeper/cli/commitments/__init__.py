"""What `pacekeeper commitment` does, apart from its arguments: documents, acts on the log, and looking ahead."""
