_base_ = ['../_base_/division/cub.py', '../_base_/division/dcplus-k1_margin_r50.py']
