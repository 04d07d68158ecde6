"""What pysftp's own put takes to upload a file, for bench.py to compare with.

python plain_put.py FILE KNOWN_HOSTS, with the CLEVER_ variables; the address is host:port.
"""

import os
import sys

import paramiko

paramiko.DSSKey = None  # type: ignore[attr-defined]
import pysftp  # noqa: E402


def put(file: str, known_hosts: str) -> None:
    """Upload a file as it is, under its own name."""
    host, port = os.environ["CLEVER_SFTP_ADDRESS"].split(":")
    options = pysftp.CnOpts(knownhosts=known_hosts)
    assert options.hostkeys is not None
    [key] = [next(iter(keys.values())) for keys in options.hostkeys.values()]
    options.hostkeys.add(host, key.get_name(), key)
    with pysftp.Connection(
        host,
        username=os.environ["CLEVER_SFTP_USERNAME"],
        password=os.environ["CLEVER_SFTP_PASSWORD"],
        port=int(port),
        cnopts=options,
    ) as sftp:
        sftp.put(file)


if __name__ == "__main__":
    put(sys.argv[1], sys.argv[2])
