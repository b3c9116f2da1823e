# The onset is a fraction of the run, so that shortened runs reach IAA too.
iaa = dict(type='IAAGenerator', num_copies=3, lam=0.8, onset=0.05, update_interval=2)
