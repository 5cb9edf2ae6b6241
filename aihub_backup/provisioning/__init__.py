"""Configuration that comes from outside: the variables of the first start, and documents that are imported.

`environment` and `document` read it into `wishes`; `first_start` and `importing` make rows of them through the same
services as every other door.
"""
