"""Three real agents, somebody who appends all the time, and what the operating system says about them.

Never ends a process that it did not start.
"""

import asyncio
import json
import os
import subprocess
import time

AGENTS = 3
# A line every so often, in seconds.
APPEND_EVERY = 0.02


class Agent:
    def __init__(self, name, process, log, addr):
        self.name, self.process, self.log, self.addr = name, process, log, addr
        self.quiet = self.peak = self.now = (0, 0)

    def look(self):
        """Resident KiB and open descriptors, now; remembers the most."""
        base = f"/proc/{self.process.pid}"
        with open(f"{base}/status") as status:
            kib = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
        self.now = kib, len(os.listdir(f"{base}/fd"))
        self.peak = max(self.peak[0], self.now[0]), max(self.peak[1], self.now[1])
        return self.now

    @property
    def host(self):
        return self.addr[0]

    @property
    def port(self):
        return self.addr[1]

    def log_bytes(self):
        with open(self.log, "rb") as log:
            return log.read()


class Appender:
    """`quorate append -`: lines in, offsets out, and how long each took."""

    def __init__(self, process):
        self.process = process
        self.sent = []
        self.acked = []
        self.tasks = []
        self.over = False

    async def feed(self):
        while not self.over:
            self.sent.append(time.monotonic())
            self.process.stdin.write(b"line %d\n" % len(self.sent))
            try:
                await self.process.stdin.drain()
            except ConnectionError:
                # It gave up; its exit code and its words say why.
                return
            await asyncio.sleep(APPEND_EVERY)

    async def listen(self):
        while line := await self.process.stdout.readline():
            self.acked.append((int(line), time.monotonic()))

    def latencies(self, begin=0, end=None):
        """Milliseconds of the appends number `begin` to `end`, sorted."""
        both = list(zip(self.sent, self.acked))[begin:end]
        return sorted(1000 * (acked - sent) for sent, (_, acked) in both)

    async def finish(self):
        """Ends it in good order: (lines sent, acknowledged, exit code, what it complained about)."""
        self.over = True
        await self.tasks[0]
        self.process.stdin.close()
        code = await asyncio.wait_for(self.process.wait(), 30)
        await self.tasks[1]
        complaint = (await self.process.stderr.read()).decode(errors="replace").strip()
        return len(self.sent), len(self.acked), code, complaint


class Cluster:
    def __init__(self, quorate, home):
        self.quorate, self.home = os.path.abspath(quorate), home
        self.pki = os.path.join(home, "pki")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("QUORATE_")}
        self.env["QUORATE_RUNTIME_DIR"] = os.path.join(home, "run")
        os.mkdir(self.env["QUORATE_RUNTIME_DIR"], 0o700)
        self.agents = []

    def run(self, *args, check=True, timeout=60):
        said = subprocess.run(
            [self.quorate, *args], env=self.env, capture_output=True, timeout=timeout, stdin=subprocess.DEVNULL
        )
        if check and said.returncode != 0:
            raise RuntimeError(f"quorate {' '.join(args)}: exit {said.returncode}: {said.stderr.decode()}")
        return said

    async def run_aside(self, *args):
        """A command beside servers of ours: exit code, stdout, stderr."""
        process = await asyncio.create_subprocess_exec(
            self.quorate,
            *args,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode, out, err

    def start(self):
        self.run("certs", "init", "--out", self.pki)
        for n in range(1, AGENTS + 1):
            self.run("certs", "issue", "agent", f"n{n}", "--out", self.pki)
        for name, role in (("app", "append"), ("ops", "admin"), ("eye", "read")):
            self.run("certs", "issue", "client", name, "--role", role, "--out", self.pki)
        # The first one logs all that there is to log, the second one for machines, the third one as users do.
        talk = (["--log", "debug"], ["--log-format", "json"], [])
        for n in range(1, AGENTS + 1):
            self.agents.append(self.start_agent(n, talk[n - 1]))
        self.run("members", "--wait", f"voters={AGENTS}", "--timeout", "30s")

    def start_agent(self, n, talk):
        name = f"n{n}"
        log = os.path.join(self.home, f"{name}.log")
        join = [f"{a.host}:{a.port}" for a in self.agents[:1]]
        command = [self.quorate, "agent", "--certs", f"{self.pki}/{name}", "--data", f"{self.home}/{name}"]
        command += ["--bind", "127.0.0.1:0", *talk]
        command += ["--join", *join] if join else ["--bootstrap"]
        with open(log, "wb") as out:
            process = subprocess.Popen(command, env=self.env, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        agent = Agent(name, process, log, None)
        deadline = time.monotonic() + 30
        while agent.addr is None:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} did not start: {agent.log_bytes().decode(errors='replace')}")
            time.sleep(0.05)
            agent.addr = self.address_of(process.pid)
        return agent

    def address_of(self, pid):
        """From the descriptor which a running agent keeps."""
        directory = self.env["QUORATE_RUNTIME_DIR"]
        for name in os.listdir(directory):
            try:
                with open(os.path.join(directory, name)) as text:
                    said = json.load(text)
            except (OSError, ValueError):
                continue
            if isinstance(said, dict) and said.get("pid") == pid:
                host, port = said["addr"].rsplit(":", 1)
                return host, int(port)
        return None

    def status(self, agent):
        said = self.run(
            "--addr", f"{agent.host}:{agent.port}", "--certs", f"{self.pki}/eye", "--format", "json", "status"
        )
        return json.loads(said.stdout)

    def leader(self):
        name = self.status(self.agents[0])["leader"]
        return next(agent for agent in self.agents if agent.name == name)

    async def append_on_and_on(self):
        leader = self.leader()
        process = await asyncio.create_subprocess_exec(
            self.quorate,
            "--addr",
            f"{leader.host}:{leader.port}",
            "--certs",
            f"{self.pki}/app",
            "append",
            "-",
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        appender = Appender(process)
        appender.tasks = [asyncio.create_task(appender.feed()), asyncio.create_task(appender.listen())]
        return appender

    def stop(self):
        for agent in self.agents:
            if agent.process.poll() is None:
                agent.process.terminate()
        for agent in self.agents:
            try:
                agent.process.wait(20)
            except subprocess.TimeoutExpired:
                agent.process.kill()
                agent.process.wait()
