"""The composition root: the only place that builds adapters and joins them to the services.

Import its modules by name: Flower's children and short commands need one of them, and not the seconds of all.
"""
