# Masks over 10 epochs: joined from epoch 80 of 180 and never fine-tuned (TPAMI release), in proportion.
custom_hooks = [dict(type='DivisionHook', hierarchical=True, divide_until=5, interval=1)]
