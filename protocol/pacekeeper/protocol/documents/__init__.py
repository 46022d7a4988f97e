"""Documents: one Markdown file that people read and machines run.

blocks splits the file into articles and term blocks; tables scans the blocks' TOML; terms reads typed values with their
line numbers; agreement compiles them; checks holds the rules between them; lint lists every fault at once; describe
says in words what was compiled; template writes a new document. specs/documents.md has the rules.
"""
