/* SPDX-License-Identifier: Apache-2.0 */
/* load PORT CONNECTIONS SECONDS [SECRET]: signed POSTs of 600-byte bodies over kept connections,
 * each with an id of its own, signed ahead; prints "requests/s p50_us non200". The same program
 * loads hookline and the baseline. One thread, epoll. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "buf.h"
#include "clock.h"
#include "crypto.h"

#define BODY 600
#define SAMPLES 2000000

struct conn {
    int fd;
    size_t have, sent, len;
    int64_t since_us;
    char out[1280], in[1024];
};

static struct crypto_hmac *key;
static uint64_t number, done, bad;
static uint32_t *samples;

/* The next request; signing is a microsecond of the load's own core, the same for both sides. */
static void next_request(struct conn *c)
{
    static char body[BODY + 1];
    char id[48], stamp[24], head[80];
    struct buf mac = BUF_INIT;
    uint8_t raw[CRYPTO_HASH_MAX];
    struct span parts[4];

    if (!body[0]) {
        memset(body, 'x', BODY);
        memcpy(body, "{\"type\":\"batch.succeeded\",\"data\":{\"id\":\"b1\"},\"pad\":\"", 52);
        memcpy(body + BODY - 2, "\"}", 2);
    }
    snprintf(id, sizeof id, "msg_%d_%llu", (int)getpid(), (unsigned long long)number++);
    snprintf(stamp, sizeof stamp, "%lld", (long long)clock_wall_ms() / 1000);
    snprintf(head, sizeof head, "%s.%s.", id, stamp);
    parts[0] = span_str(head);
    parts[1] = span_of(body, BODY);
    buf_base64(&mac, span_of(raw, crypto_hmac(key, parts, 2, raw)));
    c->len = (size_t)snprintf(
        c->out, sizeof c->out,
        "POST /hooks/demo HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: load\r\nContent-Type: "
        "application/json\r\nwebhook-id: %s\r\nwebhook-timestamp: %s\r\nwebhook-signature: "
        "v1,%s\r\nContent-Length: %d\r\n\r\n%s",
        id, stamp, buf_cstr(&mac), BODY, body);
    buf_free(&mac);
    c->sent = c->have = 0;
    c->since_us = clock_mono_us();
    c->sent = (size_t)send(c->fd, c->out, c->len, 0);
    if (c->sent != c->len) {
        fprintf(stderr, "load: a short write\n");
        exit(1);
    }
}

/* True when the whole answer is there. */
static bool answered(struct conn *c)
{
    ssize_t n = recv(c->fd, c->in + c->have, sizeof c->in - 1 - c->have, 0);
    char *end, *length;

    if (n <= 0) {
        fprintf(stderr, "load: the connection was closed\n");
        exit(1);
    }
    c->have += (size_t)n;
    c->in[c->have] = '\0';
    if (!(end = strstr(c->in, "\r\n\r\n")) || !(length = strcasestr(c->in, "content-length: ")))
        return false;
    return (size_t)(end + 4 - c->in) + strtoul(length + 16, NULL, 10) <= c->have;
}

static void take_answer(struct conn *c)
{
    if (done < SAMPLES)
        samples[done] = (uint32_t)(clock_mono_us() - c->since_us);
    done++;
    bad += strncmp(c->in + 9, "200", 3) != 0;
    next_request(c);
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
    int ep = epoll_create1(0), n = argc > 2 ? atoi(argv[2]) : 1;
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct conn *conns = xcalloc((size_t)n, sizeof *conns);
    struct epoll_event ev[256];
    int64_t start, end;
    uint8_t raw[64];

    if (argc < 4)
        return 64;
    a.sin_port = htons((uint16_t)atoi(argv[1]));
    key = crypto_hmac_new(CRYPTO_SHA256, span_of(raw, argc > 4 ? (size_t)crypto_from_base64(
                                                                     span_str(argv[4] + 6), false,
                                                                     false, raw, sizeof raw)
                                                               : 1));
    samples = xcalloc(SAMPLES, sizeof *samples);
    for (int i = 0; i < n; i++) {
        conns[i].fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(conns[i].fd, (struct sockaddr *)&a, sizeof a)) {
            perror("load: connect");
            return 1;
        }
        epoll_ctl(ep, EPOLL_CTL_ADD, conns[i].fd,
                  &(struct epoll_event){ .events = EPOLLIN, .data.ptr = &conns[i] });
    }
    start = clock_mono_us();
    end = start + (int64_t)(atof(argv[3]) * 1e6);
    for (int i = 0; i < n; i++)
        next_request(&conns[i]);
    while (clock_mono_us() < end) {
        int got = epoll_wait(ep, ev, 256, 1000);
        for (int i = 0; i < got; i++) {
            struct conn *c = ev[i].data.ptr;
            if (answered(c))
                take_answer(c);
        }
    }
    end = clock_mono_us();
    if (done == 0)
        return 1;
    qsort(samples, MIN(done, (uint64_t)SAMPLES), sizeof *samples, by_value);
    printf("%.0f %u %llu\n", (double)done * 1e6 / (double)(end - start),
           samples[MIN(done, (uint64_t)SAMPLES) / 2], (unsigned long long)bad);
    return 0;
}
