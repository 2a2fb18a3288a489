"""Images of this machine: one content store that all nodes, clusters and engines share.

`LocalImages` is the interface, `destroy` removes a store; the modules beside it are its parts:

    reference   what an image is called                 registry   the distribution API, pulls
    archive     docker-archive and OCI layout tars      unpack     layers onto disk, safely
    content     layers, configurations and the database of names
"""

from tiphys.runtime.images.content import destroy
from tiphys.runtime.images.store import LocalImages

__all__ = ["LocalImages", "destroy"]
