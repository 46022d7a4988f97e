"""The doctor: looks at everything that a role needs before it starts, changes nothing, and says what to do."""
