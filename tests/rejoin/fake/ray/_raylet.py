"""A GcsClient that reads the cluster id from the file that STAND_IN_ID names; without it, it has none to tell."""

import atexit
import os
import time
from pathlib import Path


class ClusterId:
    def hex(self) -> str:
        return Path(os.environ["STAND_IN_ID"]).read_text()


class Head:
    is_head_node = True
    state = 0

    def __init__(self, address: str) -> None:
        self.node_manager_address, _, port = address.rpartition(":")
        self.node_manager_port = int(port)


class GcsClient:
    def __init__(self, address: str) -> None:
        self.address = address
        self.cluster_id = ClusterId()
        if "STAND_IN_ASKED" in os.environ:
            with Path(os.environ["STAND_IN_ASKED"]).open("a") as log:
                log.write("x\n")
        time.sleep(float(os.environ.get("STAND_IN_ASK_S", "0")))
        print("a word of Ray's own", flush=True)
        atexit.register(print, "and one at its end")

    def get_all_node_info(self) -> dict[str, Head]:
        return {"head": Head(self.address)}
