"""The transparency log's formats, as C2SP and RFC 6962 define them: bytes in, verdicts out.

Floors: policy, receipt and follow stand on checkpoint, cosignature and tiles; those on note and merkle; those on vkey
and encoding. The rules are in specs/tree.md, specs/tiles.md, specs/notes.md and specs/receipts.md.
"""
