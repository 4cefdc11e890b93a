/* net - an HTTP server on one libevent loop: listeners, connections, total deadlines.
 *
 * One server belongs to one thread. Used by intake (one a thread, SO_REUSEPORT) and by the admin
 * and probe listeners. Connections use plain events and buffers of their own; a buffer is held only
 * while bytes wait in it. Answers leave in the order of their requests; EV_WRITE is armed only
 * after EAGAIN. Deadlines are total, kept in one list a kind (equal lengths, so arrival order is
 * deadline order) and looked at four times a second.
 *
 * A request is alive from its head until net_answer() took it; the handler may answer at once or
 * later, from the loop's thread. If the client goes away first, the request stays valid until it is
 * answered (the answer is then dropped). */
#pragma once

#include <event2/event.h>

#include "cfg.h"
#include "err.h"
#include "http.h"
#include "metrics.h"

struct net_prefixes { /* how many bits of an address stand for one network */
    uint8_t v4, v6;
};

struct rate_places;
struct address_nets;
struct net_limits {
    struct http_limits http;
    uint64_t buffer_bytes; /* request bytes held by all servers of the process that share `held` */
    uint32_t connections;
    int64_t header_timeout_ms, body_timeout_ms, idle_timeout_ms, reply_timeout_ms;
    int64_t handshake_timeout_ms; /* of TLS, and of the PROXY header before it */
    uint32_t pipeline;            /* requests of one connection parsed ahead: 32 */
    /* Of one network; 0: as many as all. Counted together where servers share `places`, which stay
     * the same as long as the server lives. */
    uint32_t network_connections;
    bool local_uncounted; /* neither is this machine */
    struct net_prefixes prefixes;
    struct rate_places *places;
    const struct address_nets *uncounted; /* proxies, behind which many are; may be NULL */
};

struct net_server;
struct net_conn;

struct net_request {
    struct http_request http;
    char *bytes; /* head and body; the spans of http.h's look-ups point here */
    struct net_conn *conn;
    struct net_server *server;
    int64_t started_us; /* CLOCK_MONOTONIC when its first byte came */
    uint64_t id;        /* a random one; its answer carries it as Hookline-Request */
    bool gone;          /* the client left; answer all the same */
    bool keep; /* set by the handler: the request stays after its answer, until net_request_release
                */
    /* private: */
    struct net_request *next;
    size_t have, cap;
    struct buf reply;
    bool answered, close, kept;
    _Alignas(16) char extra[]; /* as many bytes as net_server_new was told; zeroed */
};

struct net_handler {
    /* The head is there. Return HTTP_ERR_NONE to go on (may lower or raise http.body_max), or the
     * error to refuse with before any body is read. */
    enum http_error (*head)(struct net_request *req, void *arg);
    /* All bytes are there. Must end in exactly one net_answer(), now or later. */
    void (*request)(struct net_request *req, void *arg);
    /* A request was refused by the parser or a limit (req may be NULL); for counting. May be NULL.
     */
    void (*refused)(enum http_error e, struct net_request *req, void *arg);
};

struct net_server *net_server_new(struct event_base *base, const struct net_limits *limits,
                                  _Atomic uint64_t *held, const struct net_handler *h, void *arg,
                                  size_t extra);
/* "host:port", "[v6]:port", "unix:/path" (mode 0660, a stale socket file is replaced). Port 0 picks
 * one. reuse: SO_REUSEPORT. out (may be NULL) gets what was bound, as text, 128 bytes. */
MUST_CHECK int net_listen(struct net_server *s, const char *address, bool reuse, char *out,
                          struct err *e);
/* The two halves of it, for descriptors that several servers accept from (Unix sockets). The
 * descriptor stays the caller's. */
MUST_CHECK int net_bind(const char *address, bool reuse, char *out, struct err *e);
void net_listen_fd(struct net_server *s, int fd);
/* Binds so many sockets to a TCP address, for net_bind and net_listen to take later, when the
 * process may not do so itself; of any other address nothing. Main thread, before there are
 * others; on failure the process is to end. */
MUST_CHECK int net_reserve(const char *address, unsigned sockets, struct err *e);
/* --- what stands before HTTP ---------------------------------------------------------------------
 */

struct net_tls_cfg { /* section `tls` of a listener */
    struct cfg_strs cert, key;
    char *client_ca;
    int client; /* enum tls_client */
};
const struct cfg_key *net_tls_keys(void);
struct net_listen_cfg { /* one of `listen` */
    char *address;
    struct net_tls_cfg *tls;
    bool proxy_protocol;
};
const struct cfg_key *net_listen_keys(void);

struct tls_server;
struct net_door { /* zero: plain HTTP */
    struct tls_server *tls;
    bool proxy;                      /* a PROXY header comes first */
    const struct address_nets *from; /* from these only; NULL or empty: from whom it may */
};
/* Reads the files. tls may be NULL. On failure e says what is wrong and the door is plain. */
MUST_CHECK int net_door_open(struct net_door *d, const struct net_tls_cfg *tls, bool proxy,
                             struct err *e);
void net_door_close(struct net_door *d); /* connections that came through it go on */
/* For connections to come, through the at-th listener of the server; plain until then. The door's
 * context stays the caller's and must be there until another door is set. */
void net_set_door(struct net_server *s, size_t at, const struct net_door *door);
/* hookline_tls_certificate_expiry_timestamp_seconds, one line a certificate. */
void net_door_metrics(const struct net_door *d, const struct net_tls_cfg *tls, const char *address,
                      struct buf *out);

enum net_handshake { /* how they ended */
                     HANDSHAKE_DONE,
                     HANDSHAKE_RESUMED,
                     HANDSHAKE_FAILED,
                     HANDSHAKE_TIMEOUT,
                     HANDSHAKE_PROXY, /* the PROXY header was none */
                     HANDSHAKES
};
const char *net_handshake_name(enum net_handshake h);                          /* metric label */
uint64_t net_handshakes(const struct net_server *s, enum net_handshake which); /* any thread */

void net_set_limits(struct net_server *s, const struct net_limits *limits); /* a reload */
void net_stop_listening(struct net_server *s);
/* From now on answers say Connection: close and idle connections are closed. */
void net_drain(struct net_server *s);
size_t net_connections(const struct net_server *s);
/* Requests without an answer, and connections whose answers the kernel has not taken yet. */
size_t net_unanswered(const struct net_server *s);
void net_server_free(struct net_server *s); /* closes everything that is left */

/* Takes the request. `reply` without close, head, http10: the server adds what the connection
 * needs.
 */
void net_answer(struct net_request *req, const struct http_reply *reply);
void net_answer_error(struct net_request *req, enum http_error e, const char *detail,
                      const char *allow);

/* Gives a kept request back, answered or not yet sent; it is not the handler's any more. */
void net_request_release(struct net_request *req);

/* A stream (server-sent events), begun by the handler before it returns: headers now, pieces later.
 * `closed` runs once when the client left or net_stream_end was called; the stream is dead after
 * it. NULL: the client is gone already, and `closed` does not run. */
struct net_stream;
struct net_stream *net_answer_stream(struct net_request *req, const struct http_reply *reply,
                                     void (*closed)(void *arg), void *arg);
/* A stream that has no headers yet: whoever owns it gives one whole answer (http_write_reply, with
 * close) to net_stream_finish once there is one. Of the request nothing is kept, so one who waits
 * costs hardly more than an idle connection. */
struct net_stream *net_answer_later(struct net_request *req, void (*closed)(void *arg), void *arg);
void net_stream_write(struct net_stream *st, struct span bytes);
size_t net_stream_pending(const struct net_stream *st); /* bytes not yet taken by the kernel */
void net_stream_finish(struct net_stream *st, struct span bytes); /* writes the last and ends it */
void net_stream_end(struct net_stream *st);

/* Highest number of connections that leaves `reserve` descriptors for the log and the sinks, or
 * half of them where there are very few; a lower number than wanted is logged. */
uint32_t net_connection_limit(uint32_t wanted, uint32_t reserve);

/* How many of so many connections there are descriptors for beside `others`; the soft limit of the
 * process is raised as far as it goes. */
uint32_t net_spare_connections(uint32_t wanted, uint32_t others);

/* Who sent it: cheap to note, and text only when it is shown: "1.2.3.4", "unix", or "gone". */
struct net_peer {
    int family; /* AF_UNSPEC: gone */
    uint8_t address[16];
};
#define NET_PEER_TEXT_MAX 64
void net_peer(const struct net_request *req, struct net_peer *out);
const char *net_peer_text(const struct net_peer *p, char out[NET_PEER_TEXT_MAX]);
/* Of a client whose certificate was verified: "dns:NAME" and its like, each with a NUL behind it
 * (tls_client_names). Empty for all others. */
struct span net_client_names(const struct net_request *req);
