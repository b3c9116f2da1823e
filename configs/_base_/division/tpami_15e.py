# Masks over 15 epochs: joined from epoch 80 of 180 and never fine-tuned (TPAMI release), in proportion. Every epoch
# doubles the learners (release: every second of 180); at that pace 8 learners have the epochs 3 to 5 for themselves.
custom_hooks = [dict(type='DivisionHook', hierarchical=True, divide_until=6, interval=1)]
