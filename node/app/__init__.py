"""The composition root: the only place that builds adapters and joins them to the services."""

from node.app.doctor import doctor
from node.app.founding import found
from node.app.joining import join
from node.app.serving import serve

__all__ = ["doctor", "found", "join", "serve"]
