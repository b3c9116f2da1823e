_base_ = ['../_base_/division/cars196.py', '../_base_/division/margin_r50.py']
