"""What root keeps of its changes: generations, their undo records, and the journal of the open one."""
