/* tls - the server's side of TLS 1.2 and 1.3 over OpenSSL, on non-blocking sockets.
 *
 * A context is immutable and may be shared by threads; connections keep what they need of it, so it
 * may be freed while they live. The keys of session tickets belong to the process: they outlive
 * contexts and turn every hour. A connection belongs to one thread. No renegotiation, no
 * compression, no early data; http/1.1 is the only protocol that is offered. */
#pragma once

#include <sys/types.h>

#include "buf.h"
#include "err.h"

struct tls_server;
struct ssl_st; /* a connection, OpenSSL's SSL */

struct tls_pair { /* PEM files: a certificate with its chain, and its key */
    const char *cert, *key;
};
enum tls_client { TLS_CLIENT_REQUIRED, TLS_CLIENT_OPTIONAL };

/* A client that asks for a name gets the first certificate that is good for it, else the first of
 * all. Two of different kinds of key for one name stand together: the client's abilities choose.
 * client_ca: PEM file of who may vouch for clients; NULL: they are not asked for a certificate. */
struct tls_server *tls_server_new(const struct tls_pair *pairs, size_t n, const char *client_ca,
                                  enum tls_client client, struct err *e);
void tls_server_free(struct tls_server *s); /* accepts NULL */
/* When the i-th certificate ends, in seconds since the epoch. */
int64_t tls_server_expiry(const struct tls_server *s, size_t i);

/* fd stays the caller's. */
struct ssl_st *tls_accept(struct tls_server *s, int fd);
/* 1: done, 0: to be called again when the socket is ready, -1: failed. *write: it waits for room to
 * write rather than for bytes. */
int tls_handshake(struct ssl_st *c, bool *write);
/* As recv(2) and send(2): -1 with EAGAIN when it has to wait. *more: bytes may be left that no
 * event of the socket will tell of. What was not sent must come again, first and in full. */
ssize_t tls_recv(struct ssl_st *c, void *p, size_t n, bool *more, bool *write);
ssize_t tls_send(struct ssl_st *c, const void *p, size_t n);
void tls_goodbye(struct ssl_st *c); /* says that nothing follows; at most once */
bool tls_resumed(struct ssl_st *c);
void tls_free(struct ssl_st *c);
const char *tls_why(void); /* of the last failure of this thread: a constant text */

/* Of a client whose certificate was verified: what it is for, as "dns:NAME", "uri:URI",
 * "email:ADDRESS", "cn:NAME", each with a NUL behind it. Nothing for the others. */
void tls_client_names(struct ssl_st *c, struct buf *out);
