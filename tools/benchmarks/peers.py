"""cloudia, the floor and the peers: how each is started for a scene, and how an answer is checked."""

import zlib

from common import Server, connect, exchange, fail, free_port, locate, output_of, say, version_of

# Debian's packages, and the programs in them.
PACKAGES = {"nginx": "nginx", "h2o": "h2o", "lighttpd": "lighttpd", "varnish": "varnish", "caddy": "caddy"}
PROGRAMS = {"varnish": "varnishd"}
PEERS = list(PACKAGES)

# Who may fail: the scene goes on without it, and the page says why. Anybody else's failure ends the run.
OPTIONAL = ("h2o", "lighttpd", "varnish", "caddy")
# They take five and ten times as long for a request: fewer rounds tell as much.
SLOW = ("varnish", "caddy")


class Varnish(Server):
    """It and the server behind it, which is no part of what is measured."""

    def __init__(self, *args, behind, **how):
        super().__init__(*args, **how)
        self.behind = behind

    def __enter__(self):
        self.behind.__enter__()
        self.marks["@BACKEND@"] = self.behind.port
        try:
            return super().__enter__()
        except BaseException:
            self.behind.__exit__()
            raise

    def __exit__(self, *_):
        super().__exit__()
        self.behind.__exit__()


class Stable:
    """Where servers are kept: makes those that a scene asks for."""

    def __init__(self, args, work, all_cores, server_core, client_core):
        self.args, self.work = args, work
        self.all_cores, self.core, self.client_core = all_cores, server_core, client_core
        self.tools = {name: locate(PROGRAMS.get(name, name)) for name in PEERS}
        self.missing = [name for name in PEERS if not self.tools[name]]
        for name in self.missing:
            say(f"without {name}: not installed (apt-get install {PACKAGES[name]})")
        self.versions = {name: self.version(name) for name in PEERS if self.tools[name]}

    def version(self, name):
        if name == "varnish":
            # varnishd starts a child to say it, and not every place lets it.
            return output_of(["dpkg-query", "-W", "-f", "varnish ${Version}", "varnish"]) or version_of([self.tools[name], "-V"])
        return version_of([self.tools[name], "version" if name == "caddy" else "-v"])

    def cloudia(self, site, path, check, name="cloudia", program=None, words="--workers 1", core=None):
        program = (program or self.args.cloudia).resolve()
        options = f"serve --data {site.data} --listen 127.0.0.1:@PORT@ --admin off {words}"
        version = version_of([program, "--version"])
        return Server(name, [program, *options.split()], version, self.work, self.core if core is None else core, path, check)

    def floor(self, site, path, check=lambda _: None, *words):
        packed = site.peers / (path[1:] + ".gz")
        file = packed if packed.exists() else site.peers / path[1:]
        # It has no version but the commit.
        return Server("floor", [self.args.floor.resolve(), "127.0.0.1:@PORT@", file, *words], None, self.work, self.core, path, check)

    def peer(self, name, site, path, check, large=False, head_buffer="2k", core=None):
        tool, core = self.tools[name], self.core if core is None else core
        marks = {
            "@SITE@": site.peers, "@HEADBUFFER@": head_buffer, "@SENDFILE@": "on" if large else "off",
            "@BACKEND@": "sendfile" if large else "writev",
        }
        common = dict(version=self.versions[name], work=self.work, core=core, path=path, check=check, marks=marks)
        if name == "nginx":
            return Server(name, [tool, "-c", "@DIR@/nginx.conf"], config="nginx.conf", **common)
        if name == "h2o":
            return Server(name, [tool, "-c", "@DIR@/h2o.yaml"], config="h2o.yaml", **common)
        if name == "lighttpd":
            return Server(name, [tool, "-D", "-f", "@DIR@/lighttpd.conf"], config="lighttpd.conf", **common)
        if name == "caddy":
            command = ["env", "GOMAXPROCS=1", "HOME=@DIR@", "XDG_DATA_HOME=@DIR@", "XDG_CONFIG_HOME=@DIR@", tool, "run",
                       "--config", "@DIR@/Caddyfile", "--adapter", "caddyfile"]
            return Server(name, command, config="Caddyfile", **common)
        behind = self.peer("nginx", site, path, lambda _: None, core=self.client_core)
        # One pool of threads: one core is measured. Threads are ready before they are needed, as the manual advises.
        command = [tool, "-F", "-n", "@DIR@/varnish", "-f", "@DIR@/varnish.vcl", "-a", "127.0.0.1:@PORT@", "-s", "malloc,1g",
                   "-j", "none", "-p", "thread_pools=1", "-p", "thread_pool_min=100", "-p", "timeout_idle=3600",
                   "-p", "listen_depth=4096"]
        return Varnish(name, command, config="varnish.vcl", behind=behind, **common)

    def present(self):
        return [name for name in PEERS if self.tools[name]]


# What is checked before anything is measured


def same(site, path, validators=True):
    """The same work: the same text, compressed where it was, with what makes asking again cheap."""

    def check(server):
        check_answer(server, path, server.head, server.body, site.texts[path], path.endswith(".js"))
        if validators:
            revalidated(server, path)

    return check


def check_answer(server, path, head, body, text, compressed=True):
    fields = ["etag", "last-modified", *(["content-encoding", "vary"] if compressed else [])]
    for field in [*fields, "cache-control"]:
        if f"\r\n{field}: " not in head.lower():
            fail(f"{server.name} sends no {field} for {path}:\n{head}")
    try:
        sent = zlib.decompress(body, wbits=47) if compressed else body  # either frame, gzip's or zlib's
    except zlib.error as error:
        fail(f"{server.name} sends neither gzip nor deflate for {path} ({error}):\n{head}")
    if sent != text:
        fail(f"{server.name} sends another text for {path}")


def validator(server, name):
    """A field of its own answer that makes the next one a 304."""
    lines = dict(line.lower().split(": ", 1) for line in server.head.split("\r\n")[1:] if ": " in line)
    raw = dict(line.split(": ", 1) for line in server.head.split("\r\n")[1:] if ": " in line)
    source = {"If-None-Match": "etag", "If-Modified-Since": "last-modified"}[name]
    if source not in lines:
        fail(f"{server.name} sends no {source}")
    return {name: next(value for key, value in raw.items() if key.lower() == source)}


def revalidated(server, path):
    """Both validators bring a 304 without a body, and a wrong one the whole."""
    with connect(server) as client:
        for name, wrong in (("If-None-Match", '"no"'), ("If-Modified-Since", "Thu, 01 Jan 2015 00:00:00 GMT")):
            for fields, status in ((validator(server, name), "304"), ({name: wrong}, "200")):
                head, _ = exchange(client, server.request(path, fields))
                if not head.startswith(f"HTTP/1.1 {status}"):
                    fail(f"{server.name} answers {fields} with {head.splitlines()[0]}, not {status}")


def same_list(site, asked, sample=200):
    """A part of a list of requests is answered as it must be."""

    def check(server):
        with connect(server) as client:
            for path, fields in asked[:sample]:
                head, body = exchange(client, server.request(path, fields))
                if not head.startswith("HTTP/1.1 304" if fields else "HTTP/1.1 200"):
                    fail(f"{server.name} answers {path} with {head.splitlines()[0]}")
                if not fields:
                    check_answer(server, path, head, body, site.texts[path])

    return check
