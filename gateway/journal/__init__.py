"""The journal: one record for every decision, written before the reply, found again afterwards.

`record` is the format, `writer` appends records to the spool from within the workers, `keeper`
moves them from the spool into the `index`, `search` reads both, `explain` tells one record's story
and `advice` what would have changed it. Workers only ever append.
"""
