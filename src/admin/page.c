/* SPDX-License-Identifier: Apache-2.0 */
/* The page at /: one file (page.html) without any data, so it is given to all, without a token;
 * what it shows it asks for as a client does. The browser runs only the one style
 * and the one script whose hashes stand in the header, takes data from here only, and makes no
 * markup of text. */
#include <assert.h>
#include <string.h>

#include "crypto.h"
#include "room.h"

extern const unsigned char page_html[];
extern const size_t page_html_len;

/* The source expression of what stands between <TAG> and </TAG>, which is there once. */
static void put_hash(struct buf *out, const char *tag)
{
    struct buf open = BUF_INIT, close = BUF_INIT;
    uint8_t digest[CRYPTO_HASH_MAX];
    const char *from, *to;
    size_t n;

    buf_printf(&open, "<%s>", tag);
    buf_printf(&close, "</%s>", tag);
    from = memmem(page_html, page_html_len, open.p, open.n);
    assert(from);
    from += open.n;
    to = memmem(from, (size_t)((const char *)page_html + page_html_len - from), close.p, close.n);
    assert(to);
    n = crypto_hash(CRYPTO_SHA256, span_of(from, (size_t)(to - from)), digest);
    buf_adds(out, "'sha256-");
    buf_base64(out, span_of((const char *)digest, n));
    buf_addc(out, '\'');
    buf_free(&open);
    buf_free(&close);
}

void admin_page_headers(struct buf *out)
{
    buf_adds(out, "Content-Security-Policy: default-src 'none'; connect-src 'self'; img-src data:; "
                  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
                  "require-trusted-types-for 'script'; trusted-types 'none'; script-src ");
    put_hash(out, "script");
    buf_adds(out, "; style-src ");
    put_hash(out, "style");
    buf_adds(out, "\r\n" ADMIN_HEADERS);
}

/* The page learns from its body tag that it has to ask for the token first. */
void admin_page(struct admin *a, struct net_request *req)
{
    const char *page = (const char *)page_html, *mark = memmem(page, page_html_len, "<body>", 6);
    struct buf body = BUF_INIT;

    assert(mark);
    buf_add(&body, page, (size_t)(mark - page) + 5);
    buf_adds(&body, admin_knows(a, req) ? "" : " data-token");
    buf_add(&body, mark + 5, page_html_len - (size_t)(mark - page) - 5);
    net_answer(req, &(struct http_reply){ .status = 200,
                                          .content_type = "text/html; charset=utf-8",
                                          .body = buf_as_span(&body),
                                          .extra = buf_as_span(&a->page_headers) });
    buf_free(&body);
}
