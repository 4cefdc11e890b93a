/* SPDX-License-Identifier: Apache-2.0 */
/* YAML through the whole loader. What loads is printed, and what was printed loads again and prints
 * the same (`hookline check --print` promises it); its sources are compiled. */
#include "fuzz.h"

#include "cli/conf.h"

static struct conf *load(struct span text, struct err_list *errs)
{
    struct cfg_doc *doc = cfg_parse("fuzz", text, true, errs);
    struct conf *c = xcalloc(1, sizeof *c);

    if (doc)
        cfg_load(conf_keys(), cfg_root(doc), c, errs);
    cfg_doc_free(doc);
    return c;
}

static void release(struct conf *c)
{
    cfg_release(conf_keys(), c);
    free(c);
}

static void print_again(const struct conf *c)
{
    struct err_list errs = { NULL, 0 };
    struct buf once = BUF_INIT, twice = BUF_INIT;
    struct conf *again;

    cfg_print(conf_keys(), c, &once);
    again = load(buf_as_span(&once), &errs);
    must(!errs.n);
    cfg_print(conf_keys(), again, &twice);
    must(span_eq(buf_as_span(&once), buf_as_span(&twice)));
    buf_free(&once);
    buf_free(&twice);
    release(again);
}

static void compile(const struct conf *c)
{
    for (size_t i = 0; i < c->sources.n; i++) {
        struct err_list errs = { NULL, 0 }, warns = { NULL, 0 };
        struct source_plan *p =
            source_compile(c->sources.name[i], c->sources.v[i], NULL, 0, &errs, &warns);
        must((p != NULL) == (errs.n == 0));
        source_plan_free(p);
        err_list_free(&errs);
        err_list_free(&warns);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct err_list errs = { NULL, 0 };
    struct conf *c;

    if (n && memmem(data, n, "file", 4)) /* the loader would open what the fuzzer names */
        return 0;
    c = load(span_of(data, n), &errs);
    if (!errs.n) {
        print_again(c);
        compile(c);
    }
    release(c);
    err_list_free(&errs);
    return 0;
}
