# IAA as released, in epochs of a run of 100: copies from epoch 31 on, statistics anew every second epoch.
iaa = dict(type='IAAGenerator', num_copies=3, lam=0.8, onset=30, update_interval=2)
