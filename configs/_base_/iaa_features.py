# The onset is a fraction of the run. A sweep over saved features costs less than an update over photographs.
iaa = dict(type='IAAGenerator', num_copies=3, lam=0.8, onset=0.05, update_interval=2)
