/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this room share. Everything belongs to the server's thread. */
#pragma once

#include <event2/event_struct.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/queue.h>

#include "net.h"
#include "tls.h"

/* Which deadline a connection is under; each kind has one list in the order of its deadlines. */
enum wait {
    WAIT_NONE,
    WAIT_HANDSHAKE, /* and the PROXY header before it */
    WAIT_FIRST,
    WAIT_HEADER,
    WAIT_BODY,
    WAIT_IDLE,
    WAIT_REPLY,
    WAIT_LINGER,
    WAITS
};

/* What comes before HTTP. */
enum stage { STAGE_HTTP, STAGE_PROXY, STAGE_HANDSHAKE };

TAILQ_HEAD(conn_list, net_conn);

struct net_conn {
    TAILQ_ENTRY(net_conn) waiting; /* in the list of its wait, or of the dead */
    TAILQ_ENTRY(net_conn) all;
    struct net_server *server;
    struct event ev;
    struct net_request *reading;      /* being received; NULL: nothing has come yet */
    struct net_request *first, *last; /* received, in order, not yet answered and sent */
    struct net_stream *stream;
    struct buf out;       /* what the kernel did not take */
    struct ssl_st *tls;   /* NULL: plain */
    struct net_peer peer; /* by the PROXY header, or the socket once it was asked */
    struct buf names;     /* of the client's certificate */
    int64_t deadline_ms, since_ms;
    uint32_t queued, lingered;
    int64_t place; /* among those of its network; -1: none */
    int fd;
    uint8_t wait, stage;
    short armed;
    bool more;         /* there may be bytes that no event tells of: in TLS, or in the socket */
    bool hangup;       /* the client has sent its last byte; it may not have been read yet */
    bool tls_blocked;  /* it must write before it can go on reading */
    bool closing;      /* no request is read any more; close when `out` is empty */
    bool linger;       /* the client may still be sending: read on a little before the close */
    bool continue_due; /* 100 Continue to `reading`, once all answers before it are out */
    bool paused, processing, eof, dead;
};

struct net_stream {
    struct net_conn *conn;
    void (*closed)(void *arg);
    void *arg;
};

struct listener {
    struct listener *next;
    struct event ev;
    struct net_server *server;
    struct net_door door;
    int fd;
    bool shared;
};

struct net_server {
    struct event_base *base;
    struct net_limits limits;
    _Atomic uint64_t *held;
    struct net_handler h;
    void *arg;
    size_t extra;
    struct listener *listeners; /* the last one first */
    size_t listeners_n;
    uint64_t ids; /* where the ids of requests come from */
    struct counter handshakes[HANDSHAKES];
    struct conn_list all, waits[WAITS], dead;
    struct net_request *free_requests;
    size_t free_n, conns, unanswered, writing;
    struct event tick;
    bool accepting_paused, draining, listening_stopped;
};

#define REQUEST_BYTES 4096 /* of a fresh buffer */
#define FREE_REQUESTS 512

/* conn.c */
struct net_conn *conn_new(struct net_server *s, int fd, const struct net_door *door);
void conn_close(struct net_conn *c);
void conn_refuse(struct net_conn *c, enum http_error e);
void conn_set_wait(struct net_conn *c, enum wait w);
void conn_flush(struct net_conn *c);
/* Sends from p; keeps what the kernel does not take. False: the connection is dead. */
bool conn_send(struct net_conn *c, const char *p, size_t n);
/* Sets the deadline and the events that the connection is under now. */
void conn_settle(struct net_conn *c);
void conn_end_stream(struct net_conn *c);
void conn_on_event(evutil_socket_t fd, short what, void *arg);

/* greet.c: goes on with what comes before HTTP; true once HTTP begins */
bool greet(struct net_conn *c);

/* Closes one that came to nothing before HTTP began. */
void greet_fail(struct net_conn *c, enum net_handshake how, const char *why);

/* server.c: whether its network may have one more; taken if so */
bool conn_takes_place(struct net_conn *c, const struct net_peer *p);

/* peer.c */
struct net_address { /* as the kernel tells it */
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } a;
    socklen_t n;
};
void net_peer_at(const struct net_address *at, struct net_peer *out);
void net_peer_of(int fd, struct net_peer *out);

/* proxy.c: a PROXY header, version 1 or 2. The bytes of the header once it is whole, 0 while it is
 * not, -1 when it is none. peer stays as it is where the header names nobody. */
#define PROXY_MAX 2048
int proxy_parse(const char *p, size_t n, struct net_peer *peer);

/* request.c */
struct net_request *request_take(struct net_conn *c);
void request_recycle(struct net_request *req);
bool request_grow(struct net_request *req, size_t cap);

/* deadline.c */
void deadline_tick(evutil_socket_t fd, short what, void *arg);
int64_t deadline_of(const struct net_server *s, enum wait w);

/* server.c: the caller frees *out with freeaddrinfo; and a socket that does not listen yet */
MUST_CHECK int net_resolve(const char *address, struct addrinfo **out, struct err *e);
MUST_CHECK int net_bind_tcp(const char *address, const struct addrinfo *ai, bool reuse,
                            struct err *e);
/* reserve.c: one that was bound ahead, now the caller's; or -1 */
int net_reserved(const struct addrinfo *ai);
