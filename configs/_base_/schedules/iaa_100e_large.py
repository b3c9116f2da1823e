# The released recipe for the large datasets (SOP, In-shop): a learning rate of 1e-4.
_base_ = './iaa_100e.py'

optim_wrapper = dict(optimizer=dict(lr=1e-4))
