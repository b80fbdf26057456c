"""What is sent, as bytes: values, frames, exceptions.

Start with ``frames`` and ``codec`` (with one file for each library's arrays), then ``failures``; ``copying`` and
``buffer_pool`` make bulk fast. It uses nothing of courier's.
"""
