"""RLVR: the training loop, its curriculum, rewards, alarms and the selection of weights."""
