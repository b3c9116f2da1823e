_base_ = ['../_base_/division/cub.py', '../_base_/division/margin_r50.py']
