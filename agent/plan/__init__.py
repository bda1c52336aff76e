"""From what is wanted and what is there to ordered steps. Pure: no clock, no files, no ports."""
