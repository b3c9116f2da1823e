# As cvpr_15e.py after 5 epochs on the whole embedding: the divide stage keeps its 6 epochs, the joint one has 3 left.
custom_hooks = [dict(type='DivisionHook', warm_up=5, divide_until=11, fine_tune_from=14, interval=2)]
