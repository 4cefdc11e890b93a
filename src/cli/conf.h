/* SPDX-License-Identifier: Apache-2.0 */
/* The whole configuration: the tables of the rooms joined, checked, and compiled. Immutable once
 * loaded; a reload loads another one. Main thread. */
#pragma once

#include "admin.h"

enum conf_sandbox { SANDBOX_AUTO, SANDBOX_STRICT, SANDBOX_OFF };
enum conf_reload { RELOAD_WATCH, RELOAD_SIGNAL };

struct conf {
    struct cfg_list listen; /* of struct net_listen_cfg */
    struct admin_cfg admin;
    struct wal_cfg log;
    int64_t threads;
    int reload; /* enum conf_reload */
    int64_t reload_interval_ms;
    struct intake_limits_cfg limits;
    struct intake_proxies_cfg proxies;
    struct {
        int sandbox; /* enum conf_sandbox */
        bool core_dumps;
        char *user;
    } process;
    struct {
        int64_t delay_ms, timeout_ms;
    } shutdown;
    struct {
        struct wal_dedup_cfg index;
        struct claim_cfg claim;
    } dedup;
    struct jobs_cfg jobs;
    struct {
        int level, format; /* enum log_level, enum log_format */
        struct access_cfg access;
    } logging;
    struct otlp_cfg tracing;
    struct cfg_named sources, sinks;
    struct cfg_strs retired_sinks;
    /* derived */
    struct intake_conf intake;
    struct net_door admin_door;
    uint64_t max_body;
    char *file;
};

const struct cfg_key *conf_keys(void);
/* NULL after errors. `text` is the document when it does not come from the file (--dev). */
struct conf *conf_load(const char *file, const char *text, struct err_list *errs,
                       struct err_list *warns);
void conf_free(struct conf *c);
/* Prints each error on a line of its own to stderr. */
void conf_complain(const struct err_list *errs, const char *prefix);
/* privileges.c: whether there is such a user of process.user; NULL is none. */
MUST_CHECK int check_user(const char *name, struct err *e);
