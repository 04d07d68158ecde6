"""Host names of a test's own, with the addresses that it wants, and tls_server for a certificate.

It takes Debian's libnss-wrapper, which is loaded into the job's process alone.
"""

import contextlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LIBRARY = next(Path("/usr/lib").glob("*/libnss_wrapper.so"), None)


@dataclass
class Hosts:
    """A hosts file, and the variables with which a process uses it."""

    file: Path

    @property
    def environment(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(LIBRARY), "NSS_WRAPPER_HOSTS": str(self.file)}

    def name(self, host: str, *addresses: str) -> None:
        self.file.write_text("".join(f"{address} {host}\n" for address in addresses))


@contextlib.contextmanager
def silent(address: str, port: int) -> Iterator[None]:
    """An address that does not answer at this port: no connection to it comes about."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(0)
        for _ in range(3):  # until there is no place for a further one
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex((address, port))
        yield


@contextlib.contextmanager
def tls_server(folder: Path) -> Iterator[int]:
    """A TLS server with a certificate that nobody vouches for. Gives its port. Needs openssl."""
    key = folder / "key.pem"
    certificate = folder / "certificate.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    files = ["-keyout", str(key), "-out", str(certificate), "-subj", "/CN=powerschool.test"]
    subprocess.run([*make, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=greet, args=(listener, context), daemon=True).start()
        yield listener.getsockname()[1]


def greet(listener: socket.socket, context: ssl.SSLContext) -> None:
    """Shake hands with whoever comes."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # the test is done
            return
        with contextlib.suppress(OSError), connection:
            context.wrap_socket(connection, server_side=True).close()
