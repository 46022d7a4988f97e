"""The demonstration: every role as its own process on this machine, real training, and an audit at the end.

`scene` founds the agreement and writes every role's directory, `processes` starts and ends them, `story` is what
happens when. Nothing in it is simulated: the same commands, in separate shells, do the same.
"""
