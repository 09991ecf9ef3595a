"""How fast a model is on this machine, under each engine and beside its peers. `measuring` has the way in.

Nothing is imported here: a process that measures a peer is to hold the peer and nothing of ours.
"""
