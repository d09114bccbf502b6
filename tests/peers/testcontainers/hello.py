"""What users of testcontainers do, each step checked."""

import urllib.request

from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import LogMessageWaitStrategy


def step(text):
    print(f"python: {text}")


def page(container, path="/"):
    address = f"http://{container.get_container_host_ip()}:{container.get_exposed_port(80)}{path}"
    return urllib.request.urlopen(address, timeout=30).read().decode()


with DockerContainer("web").with_exposed_ports(80).with_env("GREETING", "hello") as web:
    assert page(web) == "a page\n"
    step("a page comes through a mapped port")
    result = web.exec(["sh", "-c", "echo $GREETING; exit 3"])
    assert (result.exit_code, result.output) == (3, b"hello\n"), result
    step("an exec has its own output and exit code")
    wrapped = web.get_wrapped_container()
    wrapped.reload()
    assert wrapped.status == "running"

with Network() as network:
    with DockerContainer("web").with_network(network).with_network_aliases("pages"):
        command = "sh -c 'until wget -q -O - http://pages/; do sleep 0.1; done; echo done; sleep 1000'"
        client = DockerContainer("sh").with_network(network).with_command(command)
        with client.waiting_for(LogMessageWaitStrategy("done")):
            assert b"a page\n" in client.get_logs()[0]
            step("two of a network find each other by alias")
