/* SPDX-License-Identifier: Apache-2.0 */
/* Documents: made once, never changed, freed by whoever lets go last. The lock around the pointer
 * is there because reading a pointer and counting what it points to is not one step without it. */
#include "room.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct keys_doc *doc_new(void)
{
    struct keys_doc *doc = xcalloc(1, sizeof *doc);

    doc->refs = 1;
    return doc;
}

int doc_of_jwks(struct span text, struct keys_doc **out, struct err *e)
{
    struct crypto_keyset *set = crypto_keyset_new(text, e);

    if (!set)
        return -1;
    *out = doc_new();
    (*out)->set = set;
    return 0;
}

/* What a key or a page of HTML would fail at; whether the certificate is any good is for the one
 * who uses it to find out, with the hosts and roots that it knows. */
int doc_of_pem(struct span text, struct keys_doc **out, struct err *e)
{
    if (text.n == 0 || !memmem(text.p, text.n, "-----BEGIN CERTIFICATE-----", 27))
        return err_set(e, EXIT_NO_SERVICE, "there is no certificate in it");
    *out = doc_new();
    buf_span(&(*out)->pem, text);
    return 0;
}

void keys_release(struct keys_doc *doc)
{
    if (!doc || atomic_fetch_sub(&doc->refs, 1) != 1)
        return;
    crypto_keyset_free(doc->set);
    buf_free(&doc->pem);
    free(doc);
}

struct keys_doc *doc_hold(struct keys_set *s)
{
    struct keys_doc *doc;

    pthread_mutex_lock(&s->doc_lock);
    doc = s->doc;
    if (doc)
        atomic_fetch_add(&doc->refs, 1);
    pthread_mutex_unlock(&s->doc_lock);
    return doc;
}

void doc_publish(struct keys_set *s, struct keys_doc *doc)
{
    struct keys_doc *old;

    pthread_mutex_lock(&s->doc_lock);
    old = s->doc;
    s->doc = doc;
    pthread_mutex_unlock(&s->doc_lock);
    keys_release(old);
}

static int read_all(int fd, const char *path, uint64_t max, struct buf *out, struct err *e)
{
    ssize_t n;

    do {
        buf_reserve(out, 4096);
        n = read(fd, out->p + out->n, out->cap - out->n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(e, EXIT_IO, "read %s", path);
        out->n += (size_t)n;
        if (out->n > max)
            return err_set(e, EXIT_IO, "%s is larger than %llu bytes", path,
                           (unsigned long long)max);
    } while (n != 0);
    return 0;
}

int doc_slurp(const char *path, uint64_t max, struct buf *out, struct err *e)
{
    /* a pipe under that name must not hold up the thread */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), rc;
    struct stat st;

    if (fd < 0)
        return err_errno(e, EXIT_IO, "open %s", path);
    if (fstat(fd, &st) || !S_ISREG(st.st_mode))
        rc = err_set(e, EXIT_IO, "%s is not a regular file", path);
    else
        rc = read_all(fd, path, max, out, e);
    close(fd);
    return rc;
}
