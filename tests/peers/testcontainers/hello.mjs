// What users of testcontainers do, each step checked.
import assert from "node:assert/strict";
import { GenericContainer, Network, Wait, getContainerRuntimeClient } from "testcontainers";

const step = (text) => console.log(`node: ${text}`);

const web = await new GenericContainer("web")
  .withExposedPorts(80)
  .withEnvironment({ GREETING: "hello" })
  .withCopyContentToContainer([{ content: "copied", target: "/www/copied.txt" }])
  .withHealthCheck({ test: ["CMD-SHELL", "wget -q -O /dev/null http://127.0.0.1/"], interval: 500, timeout: 5000, retries: 20 })
  .withWaitStrategy(Wait.forAll([Wait.forListeningPorts(), Wait.forHttp("/", 80), Wait.forHealthCheck()]))
  .start();
const at = `http://${web.getHost()}:${web.getMappedPort(80)}`;
assert.equal(await (await fetch(`${at}/`)).text(), "a page\n");
assert.equal(await (await fetch(`${at}/copied.txt`)).text(), "copied");
step("a page comes through a mapped port, a copied file too");

const exec = await web.exec(["sh", "-c", "echo $GREETING; echo bad >&2; exit 3"]);
assert.deepEqual([exec.exitCode, exec.stdout, exec.stderr], [3, "hello\n", "bad\n"]);
step("an exec has its own output and exit code");

await web.copyContentToContainer([{ content: "later", target: "/www/later.txt" }]);
assert.equal(await (await fetch(`${at}/later.txt`)).text(), "later");
await web.restart();
const again = `http://${web.getHost()}:${web.getMappedPort(80)}`;
assert.equal(await (await fetch(`${again}/later.txt`)).text(), "later");
step("files are copied into a running one and survive a restart");

const network = await new Network().start();
const server = await new GenericContainer("web").withNetwork(network).withNetworkAliases("pages").start();
const client = await new GenericContainer("sh")
  .withNetwork(network)
  .withCommand(["sh", "-c", "until wget -q -O - http://pages/; do sleep 0.1; done; echo done; sleep 1000"])
  .withWaitStrategy(Wait.forLogMessage("done"))
  .start();
const lines = [];
const logs = await client.logs();
await new Promise((resolve) => logs.on("data", (data) => lines.push(...String(data).split("\n")) && lines.includes("done") && resolve()));
assert.ok(lines.includes("a page"), lines.join("|"));
logs.destroy();
step("two of a network find each other by alias");

const failing = new GenericContainer("sh").withCommand(["false"]).withWaitStrategy(Wait.forLogMessage("never")).withStartupTimeout(3000);
await assert.rejects(failing.start());
step("one that ends at once is told");

await Promise.all([web, server, client].map((container) => container.stop()));
await network.stop();
const runtime = await getContainerRuntimeClient();
const left = await runtime.container.list();
assert.deepEqual(left.map((found) => found.Image).filter((image) => !image.includes("ryuk")), []);
step("nothing is left but the reaper");
process.exit(0);
