"""The download's own process: it speaks to servers and takes archives apart, with no rights and nowhere to write.

Root starts it (`agent.adapters.artifact_fetch`) and hands it all that it may touch: one job, the files that it reads
and the files that it writes. So unlike the rest of `agent` it opens sockets by itself and has no ports: there is
nothing behind a port that could be exchanged, and less code is less to take over. No other module may import it.
What it says is believed by nobody: root hashes the programs again.
"""
