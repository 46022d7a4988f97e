"""The protocol as pure functions: no socket, clock, random source, database, thread or file is reached from here.

Everything that Pacekeeper decides is decided in this package, from bytes and numbers handed in. Its floors, each
standing on those below: evidence; replay; commitments, compute, statements; documents, tlog, envelope; keys, units;
errors, limits. Rules are numbered in specs/ and cited where they are obeyed.
"""
