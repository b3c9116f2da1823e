_base_ = ['../_base_/division/cub200.py', '../_base_/division/dcplus_k1_margin_r50.py']
