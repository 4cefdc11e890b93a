/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to the admin listener, over a socket to a real one that has no log yet: whatever comes,
 * it answers or closes, and without its token it shows nothing. Parameters are also read by
 * themselves, since with a log they lead further. */
#include "fuzz.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "admin/room.h"
#include "net/room.h"

#define TOKEN "secret-of-the-fuzzer"

static struct event_base *base;
static struct sockaddr_un address = { .sun_family = AF_UNIX };

static void start(void)
{
    static struct admin_cfg cfg = { .token = { TOKEN, sizeof TOKEN - 1, NULL, 0 },
                                    .read_token = { "read", 4, NULL, 0 },
                                    .probes = "" };
    static struct admin_view view = { .config_file = "f", .config_ok = true, .recovering = true };
    static struct net_door door;
    static char listen[64];
    struct admin *a;
    struct err e = ERR_INIT;

    snprintf(address.sun_path, sizeof address.sun_path, "/tmp/hookline-fuzz-%d", (int)getpid());
    snprintf(listen, sizeof listen, "unix:%s", address.sun_path);
    cfg.listen = listen;
    base = event_base_new();
    must(!admin_start(&a, base, &cfg, &door, &view, NULL, &e));
}

/* Parsed as the listener would; NULL when it is no request. */
static void parameters(const uint8_t *data, size_t n)
{
    static const struct http_limits limits = { 16384, 8192, 0 };
    struct net_request *req = xcalloc(1, sizeof *req);
    struct admin_params p;
    const char *bad = NULL;

    req->bytes = fuzz_copy(data, n);
    http_request_init(&req->http, &limits);
    if (http_parse(&req->http, req->bytes, n, &limits) == HTTP_HEAD) {
        bool good = admin_params(req, &p, &bad);
        must(good == !bad);
        must(!good || (p.limit > 0 && p.wait_ms >= 0 && p.wait_ms <= 300000));
        admin_params_free(&p);
    }
    free(req->bytes);
    free(req);
}

/* Everything that comes back. */
static void ask(const uint8_t *data, size_t n, struct buf *out)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char piece[4096];
    ssize_t got;

    must(!connect(fd, (struct sockaddr *)&address, sizeof address));
    fcntl(fd, F_SETFL, O_NONBLOCK);
    if (send(fd, data, n, MSG_NOSIGNAL) > 0)
        shutdown(fd, SHUT_WR);
    for (int i = 0; i < 4; i++) {
        event_base_loop(base, EVLOOP_NONBLOCK);
        while ((got = recv(fd, piece, sizeof piece, 0)) > 0)
            buf_add(out, piece, (size_t)got);
    }
    close(fd);
    event_base_loop(base, EVLOOP_NONBLOCK);
}

/* The page holds no data and is for everybody. */
static bool only_the_page(const char *out)
{
    const char *type;

    while ((out = strstr(out, "HTTP/1.1 200"))) {
        type = strstr(out, "Content-Type: ");
        if (!type || strncmp(type + 14, "text/html", 9) != 0)
            return false;
        out = type;
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct buf out = BUF_INIT;
    struct buf in = BUF_INIT;

    if (!base)
        start();
    if (n == 0 || n > 16000)
        return 0;
    parameters(data, n);
    ask(data, n, &out);
    must(!out.n || !strncmp(buf_cstr(&out), "HTTP/1.", 7));
    must(!out.n || !strstr(buf_cstr(&out), TOKEN));
    buf_add(&in, data, n);
    if (!strstr(buf_cstr(&in), TOKEN) && !strstr(in.p, "read"))
        must(!out.n || only_the_page(buf_cstr(&out)));
    buf_free(&in);
    buf_free(&out);
    return 0;
}
