/* SPDX-License-Identifier: Apache-2.0 */
/* load -p PORT -c CONNECTIONS (-t SECONDS | -n COUNT) [-s SECRET] [-a STATUS] [-T] [-f] [-r RATE]:
 * signed POSTs of 600-byte bodies over kept connections, one request in flight on each; prints one
 * JSON object. -T: over TLS 1.3. -f: each over a fresh connection, ended by a reset, which leaves
 * no port behind, and with -T a whole handshake. -r: so many a second, each at its time: one that
 * is late because all before it were has waited since then.
 *
 * It shares the machine with what it measures, so it must cost less than any server: one thread,
 * epoll, one send and one recv a request. Signatures are made before the clock starts; all requests
 * have the same length, so one template is patched in place and handed to the kernel. The same
 * program loads hookline and the baseline. An answer of another STATUS (200) is counted, everything
 * else that goes wrong ends the program. After the last second what is in flight is awaited and
 * counted in `answered`, not in `rate`. */
#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "buf.h"
#include "clock.h"
#include "crypto.h"

#define BODY 600
#define SIGNATURE 44 /* SHA-256 in base64 */
#define ID_DIGITS 9
#define JOB_DIGITS 6
#define JOBS 1000
#define AHEAD_PER_SECOND 150000 /* signatures; more are made while running */
#define SAMPLES_MAX 4000000
#define ANSWER_MAX 1024

struct conn {
    int fd;
    SSL *tls;
    bool ready; /* nothing of a handshake is missing */
    size_t have;
    int64_t since_us;
    char in[ANSWER_MAX];
};

/* One request and the places in it that change. */
static struct {
    char text[2048];
    size_t n;
    char *id, *digits, *signature, *body, *job;
    size_t id_n;
    char stamp[24];
} req;

static struct {
    int port, connections;
    double seconds, rate;
    uint64_t count;
    bool fresh;
    SSL_CTX *tls;
    struct crypto_hmac *key;
    const char *status;
} opt = { .connections = 1, .count = UINT64_MAX, .status = "200" };

static char (*signatures)[SIGNATURE];
static uint64_t signed_ahead, begun, sent, answered, bad;
static struct conn **idle;
static int idle_n, ep;
static int64_t start_us;
static uint32_t *samples;

static void put_digits(char *at, size_t n, uint64_t v)
{
    for (; n--; v /= 10)
        at[n] = (char)('0' + v % 10);
}

/* The id carries the time of the start: another run is no duplicate of this one. */
static void make_template(void)
{
    int n = snprintf(req.stamp, sizeof req.stamp, "%lld", (long long)clock_wall_ms() / 1000);

    n = snprintf(
        req.text, sizeof req.text,
        "POST /hooks/demo HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: load\r\nContent-Type: "
        "application/json\r\nwebhook-id: msg_%013llx_%0*d\r\nwebhook-timestamp: "
        "%s\r\nwebhook-signature: v1,%*s\r\nContent-Length: %d\r\n\r\n"
        "{\"type\":\"batch.succeeded\",\"data\":{\"id\":\"job-%0*d\"},\"pad\":\"",
        (unsigned long long)clock_wall_ms(), ID_DIGITS, 0, req.stamp, SIGNATURE, "", BODY,
        JOB_DIGITS, 0);
    req.body = strstr(req.text, "\r\n\r\n") + 4;
    req.n = (size_t)(req.body - req.text) + BODY;
    memset(req.text + n, 'x', req.n - (size_t)n);
    memcpy(req.text + req.n - 2, "\"}", 2);
    req.id = strstr(req.text, "webhook-id: ") + 12;
    req.id_n = strcspn(req.id, "\r");
    req.digits = req.id + req.id_n - ID_DIGITS;
    req.signature = strstr(req.text, "v1,") + 3;
    req.job = strstr(req.body, "job-") + 4;
}

static void number_request(uint64_t number)
{
    put_digits(req.digits, ID_DIGITS, number);
    put_digits(req.job, JOB_DIGITS, number % JOBS);
}

static void sign(uint64_t number, char out[SIGNATURE])
{
    const struct span parts[] = {
        { req.id, req.id_n }, S("."), span_str(req.stamp), S("."), { req.body, (size_t)(BODY) }
    };
    uint8_t raw[CRYPTO_HASH_MAX];
    struct buf text = BUF_INIT;

    number_request(number);
    buf_base64(&text, span_of(raw, crypto_hmac(opt.key, parts, ARRAY_LEN(parts), raw)));
    memcpy(out, text.p, SIGNATURE);
    buf_free(&text);
}

static void sign_ahead(void)
{
    double each_second = opt.rate ? opt.rate : AHEAD_PER_SECOND;

    signed_ahead = MIN(opt.count, (uint64_t)(opt.seconds * each_second));
    if (opt.count != UINT64_MAX)
        signed_ahead = opt.count;
    signatures = xcalloc(signed_ahead + 1, sizeof *signatures);
    for (uint64_t i = 0; i < signed_ahead; i++)
        sign(i, signatures[i]);
}

static void send_next(struct conn *c)
{
    if (sent < signed_ahead) {
        number_request(sent);
        memcpy(req.signature, signatures[sent], SIGNATURE);
    } else {
        sign(sent, req.signature);
    }
    sent++;
    c->have = 0;
    if (c->tls ? SSL_write(c->tls, req.text, (int)req.n) != (int)req.n
               : send(c->fd, req.text, req.n, 0) != (ssize_t)req.n)
        err(1, "load: send");
}

static ssize_t receive(struct conn *c, char *at, size_t n)
{
    return c->tls ? SSL_read(c->tls, at, (int)n) : recv(c->fd, at, n, 0);
}

/* True when the whole answer is there. */
static bool is_answered(struct conn *c)
{
    ssize_t n = receive(c, c->in + c->have, sizeof c->in - 1 - c->have);
    char *end, *length;

    if (n <= 0 && c->tls && SSL_get_error(c->tls, (int)n) == SSL_ERROR_WANT_READ)
        return false; /* a ticket */
    if (n <= 0)
        errx(1, "load: the connection was closed after %zu bytes", c->have);
    c->have += (size_t)n;
    c->in[c->have] = '\0';
    if (!(end = strstr(c->in, "\r\n\r\n")) || !(length = strstr(c->in, "Content-Length: ")))
        return false;
    return (size_t)(end + 4 - c->in) + strtoul(length + 16, NULL, 10) <= c->have;
}

static void take_answer(struct conn *c, int64_t now_us)
{
    if (answered < SAMPLES_MAX)
        samples[answered] = (uint32_t)(now_us - c->since_us);
    answered++;
    bad += strncmp(c->in + 9, opt.status, 3) != 0;
}

/* Goes on with the handshake, if there is one. */
static void shake_hands(struct conn *c)
{
    int rc = c->tls ? SSL_connect(c->tls) : 1;

    if (rc != 1 && SSL_get_error(c->tls, rc) != SSL_ERROR_WANT_READ)
        errx(1, "load: the handshake failed");
    c->ready = rc == 1;
}

static void open_conn(struct conn *c)
{
    static const struct linger reset = { 1, 0 };
    static const int one = 1;
    struct sockaddr_in a = { .sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons((uint16_t)opt.port) };

    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (opt.fresh)
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    if (connect(c->fd, (struct sockaddr *)&a, sizeof a))
        err(1, "load: connect");
    epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &(struct epoll_event){ .events = EPOLLIN, .data.ptr = c });
    if (opt.tls) {
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        fcntl(c->fd, F_SETFL, O_NONBLOCK);
        c->tls = SSL_new(opt.tls);
        SSL_set_fd(c->tls, c->fd);
    }
    shake_hands(c);
}

static void close_conn(struct conn *c)
{
    SSL_free(c->tls);
    c->tls = NULL;
    close(c->fd);
}

/* Whether the next one may begin: at once, or when its time has come. */
static bool is_due(int64_t now_us)
{
    return !opt.rate || (double)begun < opt.rate * (double)(now_us - start_us) / 1e6;
}

static void begin(struct conn *c, int64_t now_us)
{
    c->since_us = opt.rate ? start_us + (int64_t)((double)begun * 1e6 / opt.rate) : now_us;
    begun++;
    if (opt.fresh)
        open_conn(c);
    if (c->ready)
        send_next(c);
}

/* True: that was an answer, and the connection is idle. */
static bool go_on(struct conn *c, int64_t now_us)
{
    if (!c->ready) {
        shake_hands(c);
        if (c->ready)
            send_next(c);
        return false;
    }
    if (!is_answered(c))
        return false;
    take_answer(c, now_us);
    if (opt.fresh)
        close_conn(c);
    return true;
}

/* Requests and answers until the time or the number is reached, then the answers that are due. */
static uint64_t run(int64_t end_us)
{
    struct epoll_event ev[256];
    uint64_t in_time = 0;
    int64_t now_us = clock_mono_us(), heard_us = now_us;

    while (answered < begun || (now_us < end_us && begun < opt.count)) {
        while (idle_n && now_us < end_us && begun < opt.count && is_due(now_us))
            begin(idle[--idle_n], now_us);
        int n = epoll_wait(ep, ev, ARRAY_LEN(ev), opt.rate ? 1 : 10000);
        now_us = clock_mono_us();
        if (n > 0)
            heard_us = now_us;
        else if (now_us - heard_us > 9000000 && answered < begun)
            errx(1, "load: no answer for ten seconds, %llu are due",
                 (unsigned long long)(begun - answered));
        for (int i = 0; i < n; i++)
            if (go_on(ev[i].data.ptr, now_us))
                idle[idle_n++] = ev[i].data.ptr;
        if (now_us < end_us)
            in_time = answered;
    }
    return in_time;
}

/* With their handshakes, where they are kept. */
static void connect_all(void)
{
    struct conn *conns = xcalloc((size_t)opt.connections, sizeof *conns);
    struct epoll_event ev;

    idle = xcalloc((size_t)opt.connections, sizeof *idle);
    for (struct conn *c = conns; c < conns + opt.connections; c++) {
        idle[idle_n++] = c;
        if (opt.fresh)
            continue;
        open_conn(c);
        while (!c->ready && epoll_wait(ep, &ev, 1, 10000) == 1)
            shake_hands(c);
    }
}

static SSL_CTX *make_context(void)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

    if (!ctx || SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1)
        errx(1, "load: no TLS 1.3");
    SSL_CTX_set1_groups_list(ctx, "X25519");
    return ctx;
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

static double cpu_seconds(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void parse(int argc, char **argv)
{
    const char *secret = NULL;
    uint8_t raw[64] = { 0 };
    ssize_t n = 1;

    for (int o; (o = getopt(argc, argv, "p:c:t:n:s:a:Tfr:")) != -1;)
        switch (o) {
        case 'p':
            opt.port = atoi(optarg);
            break;
        case 'c':
            opt.connections = atoi(optarg);
            break;
        case 't':
            opt.seconds = atof(optarg);
            break;
        case 'n':
            opt.count = strtoull(optarg, NULL, 10);
            break;
        case 's':
            secret = optarg;
            break;
        case 'a':
            opt.status = optarg;
            break;
        case 'T':
            opt.tls = make_context();
            break;
        case 'f':
            opt.fresh = true;
            break;
        case 'r':
            opt.rate = atof(optarg);
            break;
        default:
            exit(64);
        }
    if (!opt.port || opt.connections < 1 || (opt.seconds <= 0) == (opt.count == UINT64_MAX))
        errx(64, "load -p PORT -c CONNECTIONS (-t SECONDS | -n COUNT) [-s SECRET] [-a STATUS] "
                 "[-T] [-f] [-r RATE]");
    if (secret &&
        (strncmp(secret, "whsec_", 6) ||
         (n = crypto_from_base64(span_str(secret + 6), false, false, raw, sizeof raw)) < 0))
        errx(64, "load: the secret is not whsec_ and base64");
    opt.key = crypto_hmac_new(CRYPTO_SHA256, span_of(raw, (size_t)n));
}

int main(int argc, char **argv)
{
    int64_t end;
    uint64_t in_time, known;
    double cpu;

    parse(argc, argv);
    make_template();
    sign_ahead();
    samples = xcalloc(SAMPLES_MAX, sizeof *samples);
    ep = epoll_create1(0);
    connect_all();
    cpu = cpu_seconds();
    start_us = clock_mono_us();
    end = opt.count == UINT64_MAX ? start_us + (int64_t)(opt.seconds * 1e6) : INT64_MAX;
    in_time = run(end);
    cpu = cpu_seconds() - cpu;
    end = clock_mono_us();
    known = MIN(answered, (uint64_t)SAMPLES_MAX);
    qsort(samples, known, sizeof *samples, by_value);
    printf("{\"answered\":%llu,\"bad\":%llu,\"seconds\":%.6f,\"rate\":%.1f,\"p50_us\":%u,"
           "\"p99_us\":%u,\"cpu\":%.6f}\n",
           (unsigned long long)answered, (unsigned long long)bad, (double)(end - start_us) / 1e6,
           opt.count == UINT64_MAX ? (double)in_time / opt.seconds
                                   : (double)answered * 1e6 / (double)(end - start_us),
           samples[known / 2], samples[known * 99 / 100], cpu);
    return 0;
}
