"""Short ways to write a configuration. Options are given as text, the way a user writes them."""


def servers(*origins):
    """A server section per origin; an origin may be a pair with its options, or text."""
    lines = []
    for entry in origins:
        origin, options = entry if isinstance(entry, tuple) else (entry, "")
        lines.append(f'    server "{getattr(origin, "at", origin)}" {{ {options} }}')
    return "\n".join(lines)


def pool(name, *origins, options=""):
    return f"pool {name} {{\n{servers(*origins)}\n    {options}\n}}\n"


def listener(routes, options="", address="127.0.0.1:{port}"):
    return f'http "{address}" {{\n    {options}\n    {routes}\n}}\n'


def tcp(pool, options="", address="127.0.0.1:{port}"):
    return f'tcp "{address}" {{\n    pool = {pool}\n    {options}\n}}\n'


def admin(options="", address="127.0.0.1:{port9}"):
    """See kit.admin.admin_of."""
    return f'admin "{address}" {{ {options} }}\n'


def top(options="", threads=1, drain="500ms"):
    return f"threads = {threads}\ndrain-timeout = {drain}\n{options}\n"


def proxying(*origins, http="", route="", options="", general="", threads=1, drain="500ms"):
    """One listener, one route for everything, one pool named web with these servers."""
    return (top(general, threads, drain) +
            listener(f'route "/" {{ pool = web {route} }}', http) +
            pool("web", *origins, options=options))


def routing(routes, http="", general="", **pools):
    """A listener with these routes; each further argument is a pool: one origin, or a list."""
    return (top(general) + listener(routes, http) +
            "".join(pool(name, *(origins if isinstance(origins, list) else [origins]))
                    for name, origins in pools.items()))
