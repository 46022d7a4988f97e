"""Commitments: what parties and labs enter together, who is bound by it, and whose exit would end it."""
