# Varnish with everything in its cache: nginx.conf is behind it, on the client's core, and asked once for each file.
# @BACKEND@ is filled in by the bench harness.
vcl 4.1;

backend files {
    .host = "127.0.0.1";
    .port = "@BACKEND@";
}

sub vcl_recv {
    # Nothing here depends on who asks: straight to the cache.
    return (hash);
}

sub vcl_backend_response {
    # Longer than any run, so that nothing is fetched while it is measured.
    set beresp.ttl = 1h;
    set beresp.grace = 1h;
}

sub vcl_deliver {
    # The same answer as everyone's.
    unset resp.http.Via;
    unset resp.http.X-Varnish;
    unset resp.http.Age;
}
