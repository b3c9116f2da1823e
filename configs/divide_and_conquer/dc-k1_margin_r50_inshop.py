_base_ = ['../_base_/division/inshop.py', '../_base_/division/margin_r50.py']
